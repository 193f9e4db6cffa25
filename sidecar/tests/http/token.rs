//! `sidecar.auth: Token`.

use crate::sidecar::{POLICY, Sidecar};

fn start() -> (Sidecar, String) {
    let guarded = format!("{POLICY}sidecar: {{auth: Token}}\n");
    let sidecar = Sidecar::with(&[("guarded", &guarded), ("open", POLICY)], |command| {
        let path =
            std::path::PathBuf::from(command.get_args().nth(1).unwrap()).with_file_name("token");
        command.arg("--token-file").arg(path);
    });
    let token = std::fs::read_to_string(sidecar.folder.path().join("token")).unwrap();
    (sidecar, token)
}

#[test]
fn calls_under_the_policy_need_the_token() {
    let (sidecar, token) = start();
    for (method, path, body) in [
        ("POST", "/v1/locks/guarded/k", ""),
        ("POST", "/v1/locks/guarded", "{\"keys\":[\"k\"]}"),
        ("GET", "/v1/locks/guarded/k", ""),
        ("GET", "/v1/locks/guarded", ""),
        ("POST", "/v1/fences/guarded/k", "{\"fencingToken\":1}"),
    ] {
        for line in [
            "",
            "Authorization: Bearer x\r\n",
            "Authorization: Basic eDp5\r\n",
            "Authorization: Bearer\r\n",
            "Authorization:\r\n",
            &format!("Authorization: {token}\r\n"),
            &format!("Authorization: Bearer {token}x\r\n"),
        ] {
            let answer = sidecar.connect().call_with(method, path, line, body);
            assert_eq!(
                (answer.status, &*answer.code()),
                (401, "unauthorized"),
                "{method} {path} {line}"
            );
            assert_eq!(
                answer.header("www-authenticate"),
                Some("Bearer realm=\"pawl\"")
            );
            assert!(!answer.body.contains(&token));
        }
        let line = format!("Authorization: bearer {token}\r\n");
        let answer = sidecar.connect().call_with(method, path, &line, body);
        assert!(
            matches!(answer.status, 200 | 423),
            "{method} {path}: {answer:?}"
        );
    }
    assert_eq!(
        sidecar.call("POST", "/v1/locks/open/k", "").status,
        200,
        "another policy does not"
    );
}

#[test]
fn leases_of_the_policy_need_it_too() {
    let (sidecar, token) = start();
    let line = format!("Authorization: Bearer {token}\r\n");
    let grant = sidecar
        .connect()
        .call_with("POST", "/v1/locks/guarded/k", &line, "")
        .json();
    let path = format!("/v1/leases/{}", grant["leaseId"].as_str().unwrap());
    for (method, tail) in [
        ("GET", ""),
        ("POST", "/renew"),
        ("GET", "/events"),
        ("DELETE", ""),
    ] {
        let answer = sidecar.call(method, &format!("{path}{tail}"), "");
        assert_eq!(
            (answer.status, &*answer.code()),
            (401, "unauthorized"),
            "{method} {tail}"
        );
    }
    assert_eq!(
        sidecar
            .connect()
            .call_with("POST", &format!("{path}/renew"), &line, "")
            .status,
        200
    );
    assert_eq!(
        sidecar
            .connect()
            .call_with("DELETE", &path, &line, "")
            .status,
        204
    );
    let open = sidecar.acquire("open/k", "");
    assert_eq!(
        sidecar
            .call(
                "DELETE",
                &format!("/v1/leases/{}", open["leaseId"].as_str().unwrap()),
                ""
            )
            .status,
        204
    );
}

#[test]
fn without_a_token_to_compare_with_nothing_is_given() {
    let guarded = format!("{POLICY}sidecar: {{auth: Token}}\n");
    let sidecar = Sidecar::with(&[("guarded", &guarded)], |_| ());
    let answer = sidecar.connect().call_with(
        "POST",
        "/v1/locks/guarded/k",
        "Authorization: Bearer x\r\n",
        "",
    );
    assert_eq!((answer.status, &*answer.code()), (503, "policy_not_ready"));
    assert_eq!(answer.json()["reason"], "TokenMissing");
}
