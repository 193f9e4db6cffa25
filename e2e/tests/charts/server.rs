//! What a real API server makes of the charts: it takes every object, its admission policies and roles let each account do
//! what it is for and nothing else, and `helm uninstall` leaves nothing.

use kube::Client;
use pawl_e2e::{
    chart::{folder, helm::Helm},
    server::kubernetes::KubernetesServer,
};

#[path = "server/accounts.rs"]
mod accounts;
#[path = "server/locks.rs"]
mod locks;
#[path = "server/objects.rs"]
mod objects;
#[path = "server/release.rs"]
mod release;

pub(super) const NAMESPACE: &str = "pawl-system";

/// An API server with the chart `pawl` in it, and the namespace `shop`.
pub(super) struct Cluster {
    pub(super) server: KubernetesServer,
    pub(super) helm: Helm,
}

impl Cluster {
    pub(super) async fn bare() -> Self {
        let server = KubernetesServer::start();
        for namespace in [NAMESPACE, "bank", "shop"] {
            server.namespace(namespace).await;
        }
        Self {
            server,
            helm: Helm::new(),
        }
    }

    pub(super) async fn installed() -> Self {
        let cluster = Self::bare().await;
        cluster.helm("install", "pawl", &[]);
        cluster
    }

    /// `helm install|upgrade` of a chart as the release of its own name. There are no controllers here, so hooks would wait
    /// for ever.
    pub(super) fn helm(&self, verb: &str, chart: &str, arguments: &[&str]) {
        let path = folder(chart).display().to_string();
        self.run(
            verb,
            chart,
            &[&[path.as_str(), "--no-hooks"], arguments].concat(),
        );
    }

    pub(super) fn uninstall(&self, chart: &str) {
        self.run("uninstall", chart, &["--no-hooks"]);
    }

    fn run(&self, verb: &str, chart: &str, arguments: &[&str]) {
        let kubeconfig = self.server.kubeconfig(self.server.admin());
        let kubeconfig = kubeconfig.display().to_string();
        let namespace = if chart == "pawl" { NAMESPACE } else { "bank" };
        let fixed = [
            verb,
            chart,
            "--namespace",
            namespace,
            "--kubeconfig",
            &kubeconfig,
        ];
        if let Err(error) = self.helm.run(fixed.iter().chain(arguments)) {
            panic!("helm {verb} {chart}: {error}");
        }
    }

    /// A client that the API server takes for this user.
    pub(super) fn client_as(&self, user: &str) -> Client {
        let mut config = self.server.config_of(self.server.admin());
        config.auth_info.impersonate = Some(user.to_owned());
        Client::try_from(config).expect("the configuration is good")
    }
}
