//! Newer servers' compare-and-delete commands: found when the connection is made, used where they are served. Debian's
//! server has none, so a server of a few lines stands in for one that has.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use pawl_sidecar::backend::redis::{
    RedisConfig,
    connection::{Connection, Link},
    probe::Compare,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::bench::server;

async fn connection(url: String) -> Arc<Connection> {
    let endpoint = RedisConfig::new(url).endpoint().unwrap();
    Link::new(endpoint, None).connection().await.unwrap()
}

#[tokio::test]
async fn a_server_without_them_runs_a_script() {
    let server = server(&[]);
    let connection = connection(server.url()).await;
    assert_eq!(connection.server().compare, Compare::Script);
    let _: String = server.run(&["SET", "key", "mine"]);
    assert!(!connection.delete_if("key", "yours").await.unwrap());
    assert_eq!(server.run::<i64>(&["EXISTS", "key"]), 1);
    assert!(connection.delete_if("key", "mine").await.unwrap());
    assert_eq!(server.run::<i64>(&["EXISTS", "key"]), 0);
    assert!(!connection.delete_if("key", "mine").await.unwrap());
}

#[tokio::test]
async fn a_server_with_them_runs_its_own() {
    for (served, compare, expected) in [
        ("DELEX", Compare::Delex, "DELEX key IFEQ mine"),
        ("DELIFEQ", Compare::Delifeq, "DELIFEQ key mine"),
    ] {
        let newer = Newer::start(served).await;
        let connection = connection(format!("redis://127.0.0.1:{}", newer.port)).await;
        assert_eq!(connection.server().compare, compare);
        assert_eq!(connection.server().version, (8, 4));
        assert_eq!(connection.server().uptime, Duration::from_secs(5));
        assert!(connection.delete_if("key", "mine").await.unwrap());
        assert_eq!(newer.heard.lock().unwrap().last().unwrap(), expected);
    }
}

/// A server that greets and has one command.
struct Newer {
    port: u16,
    heard: Arc<Mutex<Vec<String>>>,
    _serving: JoinSet<()>,
}

impl Newer {
    async fn start(served: &'static str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hears = Arc::clone(&heard);
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            while let Some(command) = read(&mut stream).await {
                hears.lock().unwrap().push(command.join(" "));
                let answer = answer(&command, served);
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        Self {
            port,
            heard,
            _serving: serving,
        }
    }
}

fn answer(command: &[String], served: &str) -> String {
    match command[0].as_str() {
        "HELLO" => "%1\r\n+proto\r\n:3\r\n".to_owned(),
        "CLIENT" => "+OK\r\n".to_owned(),
        "INFO" => {
            let info =
                "redis_version:8.4.0\r\nuptime_in_seconds:5\r\nmaxmemory_policy:noeviction\r\n";
            format!("${}\r\n{info}\r\n", info.len())
        }
        "COMMAND" => {
            let entry = |name: &str| {
                if name == served {
                    format!("*2\r\n+{}\r\n:-3\r\n", name.to_lowercase())
                } else {
                    "_\r\n".to_owned()
                }
            };
            let entries: String = command[2..].iter().map(|name| entry(name)).collect();
            format!("*{}\r\n{entries}", command.len() - 2)
        }
        name if name == served => ":1\r\n".to_owned(),
        name => format!("-ERR unknown command '{name}'\r\n"),
    }
}

/// Reads a command: an array of bulk strings. Nothing at the end.
async fn read(stream: &mut BufReader<TcpStream>) -> Option<Vec<String>> {
    let count = number(stream, '*').await?;
    let mut words = Vec::new();
    for _ in 0..count {
        let length = number(stream, '$').await?;
        let mut word = vec![0; length + 2];
        stream.read_exact(&mut word).await.ok()?;
        word.truncate(length);
        words.push(String::from_utf8(word).unwrap());
    }
    Some(words)
}

async fn number(stream: &mut BufReader<TcpStream>, kind: char) -> Option<usize> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    line.trim_end().strip_prefix(kind)?.parse().ok()
}
