use serde_json::json;

use super::*;
use crate::inject::fixtures::{config, minimal, review_of};

fn ask(body: &Value) -> (Value, Outcome) {
    let (answer, outcome) = review(&config(), body.to_string().as_bytes()).unwrap();
    assert_eq!(answer["kind"], "AdmissionReview");
    assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(answer["response"]["uid"], body["request"]["uid"]);
    (answer["response"].clone(), outcome)
}

fn change(field: &str, value: Value) -> Value {
    let mut review = review_of(&minimal());
    review["request"][field] = value;
    review
}

#[test]
fn the_patch_is_base64_of_a_json_patch() {
    let (response, outcome) = ask(&review_of(&minimal()));
    assert_eq!(outcome, Outcome::Patched);
    assert_eq!(
        (&response["allowed"], &response["patchType"]),
        (&json!(true), &json!("JSONPatch"))
    );
    let patch = STANDARD
        .decode(response["patch"].as_str().unwrap())
        .unwrap();
    let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
    let mut pod = minimal();
    json_patch::patch(&mut pod, &patch).unwrap();
    assert_eq!(pod["metadata"]["annotations"]["pawl.dev/injected"], "1.2.3");
    let (again, outcome) = ask(&review_of(&pod));
    assert_eq!(
        (again["patch"].clone(), outcome),
        (Value::Null, Outcome::Unchanged)
    );
    assert_eq!(again["patchType"], Value::Null);
    let (dry, _) = ask(&change("dryRun", json!(true)));
    assert_eq!(dry, response);
}

#[test]
fn the_api_servers_own_types_read_the_answer() {
    use kube::core::{
        DynamicObject,
        admission::{AdmissionRequest, AdmissionReview},
    };
    let mut pod = minimal();
    pod["metadata"]["name"] = "app".into();
    let asked: AdmissionReview<DynamicObject> = serde_json::from_value(review_of(&pod)).unwrap();
    let asked: AdmissionRequest<DynamicObject> = asked.try_into().unwrap();
    assert_eq!(ask(&review_of(&pod)).0["uid"], asked.uid);
}

#[test]
fn what_is_not_for_us_is_denied_with_its_uid() {
    let kind = json!({"group": "apps", "version": "v1", "kind": "Deployment"});
    for (review, expected) in [
        (change("kind", kind), "reviews pods (v1) only"),
        (change("kind", Value::Null), "reviews pods (v1) only"),
        (change("subResource", json!("binding")), "whole pods"),
        (
            change("operation", json!("CONNECT")),
            "the creation of pods",
        ),
        (change("operation", Value::Null), "the creation of pods"),
        (change("object", Value::Null), "no pod in it"),
        (change("object", json!([])), "no pod in it"),
        (change("namespace", json!("")), "names no namespace"),
    ] {
        let (response, outcome) = ask(&review);
        assert_eq!(
            (&response["allowed"], outcome),
            (&json!(false), Outcome::Denied)
        );
        assert_eq!(response["status"]["code"], 422);
        let told = response["status"]["message"].as_str().unwrap();
        assert!(told.contains(expected), "{told}");
    }
}

#[test]
fn what_asks_for_nothing_is_let_through() {
    let mut unlabelled = minimal();
    unlabelled["metadata"]["labels"] = json!({"pawl.dev/inject": "false"});
    unlabelled["metadata"]["annotations"]["pawl.dev/port"] = "bad".into();
    for review in [
        change("operation", json!("UPDATE")),
        change("operation", json!("DELETE")),
        review_of(&unlabelled),
    ] {
        let (response, outcome) = ask(&review);
        assert_eq!(
            (&response["allowed"], outcome),
            (&json!(true), Outcome::Skipped)
        );
        assert_eq!(response["patch"], Value::Null);
    }
}

#[test]
fn what_is_no_review_is_told_why() {
    let good = review_of(&minimal());
    let without = |change: fn(&mut Value)| {
        let mut review = good.clone();
        change(&mut review);
        review.to_string()
    };
    for (body, expected) in [
        (String::new(), "json"),
        ("{".to_owned(), "json"),
        ("\u{feff}{}".to_owned(), "json"),
        ("[".repeat(100_000), "json"),
        ("[]".to_owned(), "kind"),
        ("null".to_owned(), "kind"),
        (
            without(|r| r["apiVersion"] = "admission.k8s.io/v1beta1".into()),
            "kind",
        ),
        (without(|r| r["kind"] = "Pod".into()), "kind"),
        (without(|r| r["request"] = Value::Null), "no_request"),
        (without(|r| r["request"] = "x".into()), "no_request"),
        (without(|r| r["request"]["uid"] = Value::Null), "no_uid"),
        (without(|r| r["request"]["uid"] = "".into()), "no_uid"),
        (without(|r| r["request"]["uid"] = 1.into()), "no_uid"),
    ] {
        let error = review(&config(), body.as_bytes()).unwrap_err();
        assert_eq!(error.category(), expected, "{error}");
    }
}

#[test]
fn a_refusal_and_a_warning_reach_the_user() {
    let mut pod = minimal();
    pod["spec"]["hostPID"] = true.into();
    let (response, _) = ask(&review_of(&pod));
    let warning = response["warnings"][0].as_str().unwrap();
    assert!(warning.starts_with("spec.hostPID: "), "{warning}");
    pod["metadata"]["annotations"]["pawl.dev/policies"] = "".into();
    let (response, outcome) = ask(&review_of(&pod));
    assert_eq!(outcome, Outcome::Denied);
    let told = response["status"]["message"].as_str().unwrap();
    assert!(
        told.starts_with("pawl.dev/policies: names no policy; "),
        "{told}"
    );
}
