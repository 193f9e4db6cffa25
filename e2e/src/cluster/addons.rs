//! What runs in every cluster beside what is tested: the DNS server.

use std::{fs, time::Duration};

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Node, ServiceAccount},
};
use kube::{
    Api, Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
    runtime::wait::{Condition, await_condition},
};
use tokio::time::timeout;

use super::{
    credentials::NODE,
    error::{Error, Result, at},
    images::DNS,
    layout::Layout,
    network::Network,
};
use crate::server::kubernetes::objects;

/// How long the cluster may take to be ready, on a machine that builds something beside it.
const PATIENCE: Duration = Duration::from_secs(120);

/// A client of the cluster's administrator.
pub async fn client(layout: &Layout) -> Result<Client> {
    let file = layout.kubeconfig();
    let config = Kubeconfig::read_from(&file).map_err(Box::new)?;
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(config, &options)
        .await
        .map_err(Box::new)?;
    Ok(Client::try_from(config)?)
}

/// Waits until the API server answers.
pub async fn wait_for_api(client: &Client) -> Result<()> {
    let answer = async {
        loop {
            let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
            // The controller manager makes it, so it runs too.
            if accounts.get("default").await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, answer)
        .await
        .map_err(|_| late("the API server"))
}

/// Puts the DNS server there and waits until it answers on a node that is ready.
pub async fn install(client: &Client, network: Network) -> Result<()> {
    let file = Layout::checkout().join("e2e/cluster/coredns.yaml");
    let text = fs::read_to_string(&file).map_err(at(&file))?;
    let text = text
        .replace("$(IMAGE)", DNS)
        .replace("$(ADDRESS)", &network.dns().to_string());
    objects::apply(client, &text).await;
    wait::<Node>(Api::all(client.clone()), NODE, is_ready).await?;
    let deployments = Api::namespaced(client.clone(), "kube-system");
    wait::<Deployment>(deployments, "coredns", is_available).await
}

async fn wait<K>(api: Api<K>, name: &str, is_so: fn(Option<&K>) -> bool) -> Result<()>
where
    K: kube::Resource<DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + Send
        + serde::de::DeserializeOwned
        + 'static,
{
    let condition = move |object: Option<&K>| is_so(object);
    let waited = await_condition(api, name, condition.and(|_: Option<&K>| true));
    match timeout(PATIENCE, waited).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(late(name)),
    }
}

fn late(what: &str) -> Error {
    Error::Late {
        what: format!("waiting for {what}"),
        seconds: PATIENCE.as_secs(),
        hint: String::new(),
    }
}

fn is_ready(node: Option<&Node>) -> bool {
    let status = node.and_then(|node| node.status.as_ref());
    let conditions = status.and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn is_available(deployment: Option<&Deployment>) -> bool {
    let status = deployment.and_then(|deployment| deployment.status.as_ref());
    status.and_then(|status| status.available_replicas) > Some(0)
}
