use super::*;

#[tokio::test]
async fn both_loopback_addresses_have_one_port() {
    let listeners = tcp("127.0.0.1:0".parse().unwrap()).unwrap();
    let ports: Vec<u16> = listeners.iter().map(Listener::port).collect();
    assert!(
        ports.iter().all(|port| *port == ports[0] && *port != 0),
        "{ports:?}"
    );
    let has_ipv6 = std::net::TcpListener::bind("[::1]:0").is_ok();
    assert_eq!(listeners.len(), if has_ipv6 { 2 } else { 1 });
    let taken = tcp(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), ports[0]));
    assert!(
        taken
            .unwrap_err()
            .to_string()
            .contains(&format!("http://127.0.0.1:{}", ports[0]))
    );
}

#[tokio::test]
async fn an_address_of_its_own_is_listened_on_alone() {
    let listeners = tcp("127.0.0.2:0".parse().unwrap()).unwrap();
    assert_eq!(listeners.len(), 1);
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_one_in_use_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pawl.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a stale socket");
    let listener = unix(&path, Audience::Group).unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let error = unix(&path, Audience::Group).unwrap_err().to_string();
    assert!(error.contains("another process listens there"), "{error}");
    drop(listener);
    assert!(!path.exists());
}

#[tokio::test]
async fn what_is_no_socket_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, "kept").unwrap();
    assert!(unix(&path, Audience::Group).is_err());
    assert_eq!(fs::read_to_string(&path).unwrap(), "kept");
}

#[tokio::test]
async fn the_socket_of_a_successor_is_not_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pawl.sock");
    let first = unix(&path, Audience::Group).unwrap();
    fs::remove_file(&path).unwrap();
    let second = unix(&path, Audience::Group).unwrap();
    drop(first);
    assert!(path.exists());
    drop(second);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_shared_socket_is_for_every_user_and_another_for_its_group() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    for (audience, expected) in [(Audience::Group, 0o660), (Audience::Everyone, 0o666)] {
        let path = dir.path().join(format!("{expected:o}.sock"));
        let _listener = unix(&path, audience).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, expected, "{mode:o}");
    }
}
