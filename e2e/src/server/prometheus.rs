//! A Prometheus server.

use std::{net::SocketAddr, time::Duration};

use hyper::{Method, StatusCode, body::Bytes};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::{Process, Program, free_port};
use crate::http::Connection;

const PROGRAM: Program = Program {
    name: "prometheus",
    package: "prometheus",
};

/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is scraped, and the labels that its series get.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where its `/metrics` is.
    pub address: SocketAddr,
    /// Labels, as service discovery would set them.
    pub labels: Vec<(&'static str, &'static str)>,
}

/// A Prometheus that scrapes every half second. Ended when it is dropped.
#[derive(Debug)]
pub struct PrometheusServer {
    address: SocketAddr,
    process: Process,
    _folder: TempDir,
}

impl PrometheusServer {
    /// Starts one and waits until it is ready.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start(targets: &[Target]) -> Self {
        let folder = TempDir::with_prefix("pawl-prometheus-").expect("a folder can be made");
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let groups: Vec<Value> = targets
            .iter()
            .map(|target| {
                let labels: serde_json::Map<_, _> = target
                    .labels
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), json!(value)))
                    .collect();
                json!({"targets": [target.address.to_string()], "labels": labels})
            })
            .collect();
        let config = json!({
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms"},
            "scrape_configs": [{"job_name": "pawl", "static_configs": groups}],
        });
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, config.to_string()).expect("the folder can be written");
        let process = Process::start(
            PROGRAM,
            [
                format!("--config.file={}", file.display()),
                format!(
                    "--storage.tsdb.path={}",
                    folder.path().join("data").display()
                ),
                format!("--web.listen-address={address}"),
            ],
            &[],
            None,
            &folder.path().join("log"),
        );
        let server = Self {
            address,
            process,
            _folder: folder,
        };
        let start = Instant::now();
        while !server.is_ready().await {
            assert!(
                !server.process.has_ended() && start.elapsed() < PATIENCE,
                "prometheus is not ready: {}",
                server.process.log()
            );
            sleep(Duration::from_millis(20)).await;
        }
        server
    }

    async fn is_ready(&self) -> bool {
        matches!(self.get("/-/ready").await, Ok((StatusCode::OK, _)))
    }

    async fn get(&self, path: &str) -> Result<(StatusCode, Bytes), crate::http::Error> {
        let mut connection = Connection::open(self.address).await?;
        connection.send(Method::GET, path, Bytes::new()).await
    }

    /// The series that an expression has now.
    ///
    /// # Errors
    /// What Prometheus says of an expression that it cannot evaluate.
    ///
    /// # Panics
    /// If it does not answer.
    pub async fn query(&self, expression: &str) -> Result<Vec<Value>, String> {
        let expression = utf8_percent_encode(expression, NON_ALPHANUMERIC);
        let (_, body) = self
            .get(&format!("/api/v1/query?query={expression}"))
            .await
            .expect("it answers");
        let answer: Value = serde_json::from_slice(&body).expect("it answers JSON");
        match answer["status"].as_str() {
            Some("success") => Ok(answer["data"]["result"]
                .as_array()
                .cloned()
                .unwrap_or_default()),
            _ => Err(answer["error"].to_string()),
        }
    }
}
