//! What the API server sends to the webhook, or somebody else does.

use std::sync::{Arc, LazyLock};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use json_patch::{Patch, PatchOperation};
use pawl_crds::LockPolicy;
use pawl_operator::inject::{self, Config, Outcome, Policies, PullPolicy};
use serde_json::{Value, json};

const NAMESPACE: &str = "bank";

struct Known(Vec<Arc<LockPolicy>>);

impl Policies for Known {
    fn get(&self, namespace: &str, name: &str) -> Option<Arc<LockPolicy>> {
        let named = |policy: &&Arc<LockPolicy>| policy.metadata.name.as_deref() == Some(name);
        let found = (namespace == NAMESPACE).then(|| self.0.iter().find(named));
        found.flatten().cloned()
    }
}

static CONFIG: LazyLock<Config> = LazyLock::new(|| {
    let policy = |name: &str, spec: Value| {
        let document = json!({
            "apiVersion": "pawl.dev/v1alpha1",
            "kind": "LockPolicy",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": spec,
        });
        Arc::new(pawl_crds::validate(&document).unwrap())
    };
    Config {
        image: "sidecar:1".to_owned(),
        pull_policy: PullPolicy::IfNotPresent,
        version: "1".to_owned(),
        policies: Arc::new(Known(vec![
            policy("jobs", json!({"backend": {"memory": {}}})),
            policy(
                "payments",
                json!({
                    "backend": {"redis": {"url": "rediss://redis:6379", "credentialsSecretRef": {"name": "redis"}}},
                    "sidecar": {"auth": "Token"},
                }),
            ),
            policy("leases", json!({"backend": {"kubernetes": {}}})),
        ])),
    }
});

/// The bytes as a review, and as the pod of a review that is well-formed. An answer is about what was asked, a refusal
/// says why, and a patch can be applied, only adds, and leaves nothing to be done.
pub fn review(input: &[u8]) {
    judge(input);
    let Ok(pod) = serde_json::from_slice::<Value>(input) else {
        return;
    };
    if pod["kind"] != "AdmissionReview" {
        judge(review_of(&pod).to_string().as_bytes());
    }
}

fn review_of(pod: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "u",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "namespace": NAMESPACE,
            "operation": "CREATE",
            "object": pod,
        },
    })
}

fn judge(body: &[u8]) {
    let (answer, outcome) = match inject::review(&CONFIG, body) {
        Ok(answered) => answered,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let asked: Value = serde_json::from_slice(body).unwrap();
    let response = &answer["response"];
    assert_eq!(response["uid"], asked["request"]["uid"]);
    assert_eq!(response["allowed"], outcome != Outcome::Denied);
    let why = response["status"]["message"].as_str();
    assert_eq!(
        why.is_some_and(|why| !why.is_empty()),
        outcome == Outcome::Denied
    );
    assert_eq!(response["patch"].is_string(), outcome == Outcome::Patched);
    if let Some(patch) = response["patch"].as_str() {
        patched(&asked, patch);
    }
}

fn patched(asked: &Value, patch: &str) {
    let patch: Patch = serde_json::from_slice(&STANDARD.decode(patch).unwrap()).unwrap();
    let mut asked = asked.clone();
    let pod = &mut asked["request"]["object"];
    for step in &patch.0 {
        let PatchOperation::Add(_) = step else {
            panic!("{step} does not add");
        };
        let path = step.path().to_string();
        let in_list = path.ends_with("/0") || path.ends_with("/-");
        let there = pod.pointer(&path).filter(|there| !there.is_null());
        assert!(in_list || there.is_none(), "{path} is there");
        json_patch::patch(pod, std::slice::from_ref(step)).expect("the patch is for this pod");
    }
    let (again, outcome) = inject::review(&CONFIG, asked.to_string().as_bytes()).unwrap();
    assert_eq!(outcome, Outcome::Unchanged, "the second time: {again}");
}
