//! Help, exit codes and the texts of what goes wrong before anything is run.

use std::net::TcpListener;

use crate::fake_sidecar::{Fault, program};
use crate::support::{demo, output};

async fn run(arguments: &[&str]) -> (i32, String, String) {
    let ended = output(demo(arguments)).await;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        ended.status.code().unwrap(),
        text(ended.stdout),
        text(ended.stderr),
    )
}

#[tokio::test]
async fn every_command_explains_itself() {
    for (command, words) in [
        (&["--help"][..], &["bank", "race", "load", "EXIT CODES"][..]),
        (
            &["bank", "--help"],
            &["LOCK_MODE", "FENCING", "optimistic", "curl -X POST"],
        ),
        (
            &["race", "--help"],
            &[
                "--backend",
                "redlock:",
                "--serve",
                "crash",
                "Exits 1 when a lock mode lost an update",
            ],
        ),
        (&["load", "--help"], &["--rate", "--for", "due"]),
    ] {
        let (code, out, err) = run(command).await;
        assert_eq!((code, err.as_str()), (0, ""), "{command:?}");
        for word in words {
            assert!(
                out.contains(word),
                "{word} is missing in {command:?}:\n{out}"
            );
        }
        assert!(!out.contains("  child"), "the hidden command is hidden");
    }
}

#[tokio::test]
async fn wrong_usage_exits_with_64_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().to_str().unwrap();
    let sidecar = program(dir.path(), Fault::None);
    let sidecar = sidecar.to_str().unwrap();
    for (arguments, words) in [
        (&[][..], "Usage"),
        (&["rob"], "unrecognized subcommand"),
        (&["bank", "--lock-mode", "maybe"], "optimistic"),
        (&["bank", "--think", "20"], "write it like 250ms"),
        (
            &["bank", "--sidecar", "localhost"],
            "--sidecar: `localhost` is not an address",
        ),
        (&["bank", "--policy", "a/b"], "is not the name of a policy"),
        (
            &["bank", "--store", "postgres://x", "--schema", "A;"],
            "--schema",
        ),
        (
            &["bank", "--lock-mode", "none", "--store", "mysql://x"],
            "this is not a store",
        ),
        (&["race", "--act", "sing"], "stall"),
        (
            &["race", "--out", out, "--backend", "mysql://u:hidden@h"],
            "--backend: write memory, redis://",
        ),
        (
            &[
                "race",
                "--out",
                out,
                "--backend",
                "redlock:a:1,b:2",
                "--sidecar-bin",
                sidecar,
            ],
            "odd number",
        ),
        (
            &[
                "race",
                "--out",
                out,
                "--sidecar-bin",
                "/nowhere/pawl-sidecar",
            ],
            "cargo build --release -p pawl-sidecar",
        ),
        (&["load", "--url", "https://bank"], "is not an address"),
        (&["load", "--rate", "0"], "0 is not in 1..=100000"),
    ] {
        let (code, _, err) = run(arguments).await;
        assert_eq!(code, 64, "{arguments:?}: {err}");
        assert!(
            err.contains(words),
            "{arguments:?}: {words} is missing in\n{err}"
        );
        assert!(!err.contains("hidden"), "{err}");
    }
}

#[tokio::test]
async fn a_port_in_use_is_told_as_such() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    let store = crate::support::books(dir.path());
    let (code, _, err) = run(&[
        "bank",
        "--lock-mode",
        "none",
        "--store",
        &store,
        "--listen",
        &address,
    ])
    .await;
    assert_eq!(code, 1);
    assert!(
        err.contains(&format!(
            "cannot listen on {address}: Address already in use"
        )),
        "{err}"
    );

    let sidecar = program(dir.path(), Fault::None);
    let (out, serve) = (dir.path().join("out"), format!("--serve={address}"));
    let arguments = [
        "race",
        "--sidecar-bin",
        sidecar.to_str().unwrap(),
        "--out",
        out.to_str().unwrap(),
        &serve,
    ];
    let (code, _, err) = run(&arguments).await;
    assert_eq!(code, 1);
    assert!(
        err.contains("the port is in use; name another with --serve=IP:PORT"),
        "{err}"
    );
}

#[tokio::test]
async fn a_sidecar_that_ends_is_told_with_its_last_words() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let broken = dir.path().join("broken");
    std::fs::write(
        &broken,
        "#!/bin/sh\necho 'policy accounts: no such backend' >&2\nexit 64\n",
    )
    .unwrap();
    std::fs::set_permissions(&broken, std::fs::Permissions::from_mode(0o755)).unwrap();
    let out = dir.path().join("out");
    let (code, _, err) = run(&[
        "race",
        "--sidecar-bin",
        broken.to_str().unwrap(),
        "--out",
        out.to_str().unwrap(),
    ])
    .await;
    assert_eq!(code, 1);
    for words in [
        "sidecar 1 did not start: it ended: exit status: 64",
        "policy accounts: no such backend",
        "sidecar-1.log",
    ] {
        assert!(err.contains(words), "{words} is missing in\n{err}");
    }
}
