use std::os::unix::fs::symlink;

use super::*;

fn dir_with(files: &[(&str, &[u8])]) -> (tempfile::TempDir, SecretDir) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("payments")).unwrap();
    for (name, content) in files {
        fs::write(dir.path().join("payments").join(name), content).unwrap();
    }
    let secrets = SecretDir::new(dir.path());
    (dir, secrets)
}

#[test]
fn files_are_read_without_their_last_newline() {
    let (_dir, secrets) = dir_with(&[
        ("username", b"app\n"),
        ("password", b" pa ss \n\n"),
        ("tls.key", b"key\r\n"),
    ]);
    let secrets = secrets.load("payments").unwrap();
    let get = |file| secrets.get(file).map(Secret::expose);
    assert_eq!(get(SecretFile::Username), Some("app"));
    assert_eq!(get(SecretFile::Password), Some(" pa ss \n"));
    assert_eq!(get(SecretFile::Key), Some("key"));
    assert_eq!(get(SecretFile::Certificate), None);
}

#[test]
fn what_is_missing_is_named_when_it_is_required() {
    let (dir, secrets) = dir_with(&[("username", b"\n")]);
    let path = dir.path().display().to_string();
    let loaded = secrets.load("payments").unwrap();
    let error = loaded.require(SecretFile::Username).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{path}/payments/username is missing or empty")
    );
    let error = secrets
        .load("orders")
        .unwrap()
        .require(SecretFile::Password)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{path}/orders/password is missing or empty")
    );
    assert_eq!(error.category(), "secret_missing");
}

#[test]
fn what_cannot_be_read_is_told_with_path_and_cause() {
    let full = vec![b'x'; MAX_SECRET_BYTES];
    let (dir, secrets) = dir_with(&[("password", &full)]);
    assert!(secrets.load("payments").is_ok(), "at the limit");
    let password = dir.path().join("payments/password");
    let message = |content: &[u8]| {
        fs::write(&password, content).unwrap();
        let error = secrets.load("payments").unwrap_err();
        error
            .to_string()
            .replace(&dir.path().display().to_string(), "DIR")
    };
    assert_eq!(
        message(&[full.as_slice(), b"x"].concat()),
        "DIR/payments/password is larger than 65536 bytes"
    );
    assert_eq!(
        message(b"hunter2\xff"),
        "DIR/payments/password is not UTF-8 text"
    );
    fs::remove_file(&password).unwrap();
    fs::create_dir(&password).unwrap();
    assert!(matches!(
        secrets.load("payments"),
        Err(SecretError::NotAFile { .. })
    ));
    fs::remove_dir(&password).unwrap();
    symlink("password", &password).unwrap();
    let error = secrets.load("payments").unwrap_err();
    assert!(matches!(error, SecretError::Unreadable { .. }), "{error}");
}

#[test]
fn a_name_cannot_leave_the_directory() {
    let (_dir, secrets) = dir_with(&[]);
    for name in ["", ".", "..", "../payments", "a/b", "/etc"] {
        assert!(
            matches!(secrets.load(name), Err(SecretError::InvalidName { .. })),
            "{name}"
        );
    }
}

#[test]
fn nothing_of_a_secret_is_shown() {
    let (_dir, secrets) = dir_with(&[("password", b"hunter2")]);
    let secrets = secrets.load("payments").unwrap();
    let shown = format!("{secrets:?} {:?}", secrets.fingerprint());
    assert!(
        !shown.contains("hunter2") && shown.contains("Secret(..)"),
        "{shown}"
    );
}

#[test]
fn the_fingerprint_changes_with_any_file_and_only_then() {
    let (dir, secrets) = dir_with(&[("username", b"ab"), ("password", b"c")]);
    let before = secrets.load("payments").unwrap().fingerprint();
    assert_eq!(secrets.load("payments").unwrap().fingerprint(), before);
    fs::write(dir.path().join("payments/username"), "a").unwrap();
    fs::write(dir.path().join("payments/password"), "bc").unwrap();
    assert_ne!(secrets.load("payments").unwrap().fingerprint(), before);
    fs::write(dir.path().join("payments/username"), "ab").unwrap();
    fs::write(dir.path().join("payments/password"), "c").unwrap();
    assert_eq!(secrets.load("payments").unwrap().fingerprint(), before);
    fs::rename(
        dir.path().join("payments/password"),
        dir.path().join("payments/tls.key"),
    )
    .unwrap();
    assert_ne!(secrets.load("payments").unwrap().fingerprint(), before);
}

/// What the kubelet does: a new directory, a link swapped, the old directory removed.
fn kubelet_write(mount: &Path, version: usize) {
    let old = fs::read_link(mount.join(KUBELET_DATA)).ok();
    let new = format!("..{version}");
    fs::create_dir(mount.join(&new)).unwrap();
    for file in SecretFile::ALL {
        fs::write(mount.join(&new).join(file.name()), version.to_string()).unwrap();
    }
    symlink(&new, mount.join("..data_tmp")).unwrap();
    fs::rename(mount.join("..data_tmp"), mount.join(KUBELET_DATA)).unwrap();
    if let Some(old) = old {
        fs::remove_dir_all(mount.join(old)).unwrap();
    }
}

#[test]
fn files_of_two_versions_are_never_mixed() {
    let dir = tempfile::tempdir().unwrap();
    let mount = dir.path().join("payments");
    fs::create_dir(&mount).unwrap();
    kubelet_write(&mount, 0);
    for file in SecretFile::ALL {
        symlink(
            Path::new(KUBELET_DATA).join(file.name()),
            mount.join(file.name()),
        )
        .unwrap();
    }
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for version in 1..=200 {
                kubelet_write(&mount, version);
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        });
        let secrets = SecretDir::new(dir.path());
        let mut seen = std::collections::BTreeSet::new();
        while !writer.is_finished() {
            let loaded = secrets.load("payments").unwrap();
            let first = loaded.require(SecretFile::Username).unwrap().expose();
            for file in SecretFile::ALL {
                assert_eq!(loaded.require(file).unwrap().expose(), first);
            }
            seen.insert(first.to_owned());
        }
        assert!(seen.len() > 2, "the swap really happened: {seen:?}");
    });
}
