//! The reference client: what an application would write by hand against Redis.
//!
//! `SET key owner NX PX ttl` to take the lock and a compare-and-delete script to release it, as Redis'
//! [documentation](https://redis.io/docs/latest/commands/set/) shows, on one connection. It does none of what Pawl adds: no
//! renewal, no token, no waiting, no loss told.

use std::net::SocketAddr;

use redis::{AsyncConnectionConfig, Client, Cmd, Script, Value, aio::MultiplexedConnection};

use crate::{Error, wire::Wire};

/// A connection and its release script.
#[derive(Debug)]
pub struct Direct {
    wire: Wire,
    release: String,
}

impl Direct {
    /// Connects to the Redis at `address`, and loads the script.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn open(address: SocketAddr) -> Result<Self, Error> {
        let source = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) else return 0 end";
        let mut direct = Self {
            wire: Wire::open(&address.into()).await?,
            release: Script::new(source).get_hash().to_owned(),
        };
        let mut load = redis::cmd("SCRIPT");
        direct.ask(load.arg("LOAD").arg(source)).await?;
        Ok(direct)
    }

    /// Takes and releases the lock `key`.
    ///
    /// # Errors
    /// Those of the connection, and a lock that was not to be had or was lost.
    pub async fn cycle(&mut self, key: &str, owner: &str) -> Result<(), Error> {
        if self.ask(&take(key, owner)).await? != Value::Okay {
            return Err("the lock is held by another".into());
        }
        if self.ask(&self.release(key, owner)).await? != Value::Int(1) {
            return Err("the lock was lost".into());
        }
        Ok(())
    }

    /// Takes the lock `key`, and before that releases another in the same breath.
    ///
    /// # Errors
    /// As [`Direct::cycle`].
    pub async fn release_and_take(
        &mut self,
        released: Option<&str>,
        key: &str,
        owner: &str,
    ) -> Result<(), Error> {
        let (mut commands, mut expected) = (Vec::new(), "+OK\r\n");
        if let Some(released) = released {
            self.release(released, owner)
                .write_packed_command(&mut commands);
            expected = ":1\r\n+OK\r\n";
        }
        take(key, owner).write_packed_command(&mut commands);
        let whole = |answer: &[u8]| match answer {
            _ if answer == expected.as_bytes() => Ok(Some(())),
            _ if expected.as_bytes().starts_with(answer) => Ok(None),
            _ => Err(String::from_utf8_lossy(answer).into()),
        };
        self.wire.ask(&commands, whole).await
    }

    fn release(&self, key: &str, owner: &str) -> Cmd {
        let mut release = redis::cmd("EVALSHA");
        release.arg(&self.release).arg(1).arg(key).arg(owner);
        release
    }

    /// Every answer that comes here is one line, but the script's hash, which is two.
    async fn ask(&mut self, command: &Cmd) -> Result<Value, Error> {
        let whole = |answer: &[u8]| {
            let ends = answer.split(|byte| *byte == b'\n').skip(1).count();
            let is_text = answer.starts_with(b"$") && !answer.starts_with(b"$-");
            if ends < 1 + usize::from(is_text) {
                return Ok(None);
            }
            Ok(Some(redis::parse_redis_value(answer)?))
        };
        self.wire.ask(&command.get_packed_command(), whole).await
    }
}

fn take(key: &str, owner: &str) -> Cmd {
    let mut take = redis::cmd("SET");
    take.arg(key).arg(owner).arg("NX").arg("PX").arg(10_000);
    take
}

/// Reads a server's own counts.
#[derive(Debug)]
pub struct Counter(MultiplexedConnection);

impl Counter {
    /// Connects to the Redis at `url`.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn open(url: &str) -> Result<Self, Error> {
        let config = AsyncConnectionConfig::new();
        let client = Client::open(url)?;
        let connection = client.get_multiplexed_async_connection_with_config(&config);
        Ok(Self(connection.await?))
    }

    /// How many commands the server took from its clients so far; those that a script runs inside do not count.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn commands(&mut self) -> Result<u64, Error> {
        let info: String = redis::cmd("INFO")
            .arg("commandstats")
            .query_async(&mut self.0)
            .await?;
        Ok(client_commands(&info))
    }
}

/// Counts the calls in `INFO commandstats` that locks send as clients: scripts run as one, and the commands inside them are none of the
/// names here. `PUBLISH` and `SET` count only where no script calls them, which the scripts of Pawl do; so the scripts alone are
/// its commands, and a client that sends others by hand is not measured with this.
fn client_commands(info: &str) -> u64 {
    let scripts = [
        "evalsha",
        "evalsha_ro",
        "eval",
        "eval_ro",
        "fcall",
        "fcall_ro",
        "script|load",
        "delex",
        "delifeq",
        "wait",
    ];
    info.lines()
        .filter_map(|line| line.strip_prefix("cmdstat_")?.split_once(":calls="))
        .filter(|(name, _)| scripts.contains(name))
        .filter_map(|(_, rest)| rest.split(',').next()?.parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::client_commands;

    #[test]
    fn counts_what_clients_sent() {
        let info = "# Commandstats\r\ncmdstat_evalsha:calls=7,usec=1\r\ncmdstat_get:calls=99,usec=1\r\ncmdstat_eval:calls=2,usec=1\r\n";
        assert_eq!(client_commands(info), 9);
    }
}
