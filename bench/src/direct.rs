//! The reference client: what an application would write by hand against Redis.
//!
//! `SET key owner NX PX ttl` to take the lock and a compare-and-delete script to release it, as Redis'
//! [documentation](https://redis.io/docs/latest/commands/set/) shows, on one connection. It does none of what Pawl adds: no
//! renewal, no token, no waiting, no loss told.

use redis::{AsyncConnectionConfig, Client, Script, aio::MultiplexedConnection};

use crate::Error;

/// A connection and its release script.
#[derive(Clone, Debug)]
pub struct Direct {
    connection: MultiplexedConnection,
    release: Script,
}

impl Direct {
    /// Connects to the Redis at `url`.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn open(url: &str) -> Result<Self, Error> {
        let connection = Client::open(url)?
            .get_multiplexed_async_connection_with_config(&AsyncConnectionConfig::new())
            .await?;
        let release = Script::new(
            "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) else return 0 end",
        );
        Ok(Self {
            connection,
            release,
        })
    }

    /// Takes and releases the lock `key`.
    ///
    /// # Errors
    /// Those of the connection, and a lock that was not to be had or was lost.
    pub async fn cycle(&mut self, key: &str, owner: &str) -> Result<(), Error> {
        let taken: Option<String> = redis::cmd("SET")
            .arg(key)
            .arg(owner)
            .arg("NX")
            .arg("PX")
            .arg(10_000)
            .query_async(&mut self.connection)
            .await?;
        taken.ok_or("the lock is held by another")?;
        let released: u32 = self
            .release
            .key(key)
            .arg(owner)
            .invoke_async(&mut self.connection)
            .await?;
        if released == 1 {
            Ok(())
        } else {
            Err("the lock was lost".into())
        }
    }

    /// How many commands the server took from its clients so far; those that a script runs inside do not count.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn commands(&mut self) -> Result<u64, Error> {
        let info: String = redis::cmd("INFO")
            .arg("commandstats")
            .query_async(&mut self.connection)
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
