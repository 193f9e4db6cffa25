use pawl_lock::{Namespace, PolicyName};

use super::*;

fn made(nodes: &[&str]) -> Result<Redlock, InvalidNodes> {
    let scope = Scope::of(
        &Namespace::try_new("a").unwrap(),
        &PolicyName::try_new("b").unwrap(),
    );
    Redlock::new(
        RedlockConfig::new(nodes.iter().copied()),
        scope,
        1,
        Clock::system(),
    )
}

#[test]
fn nodes_are_an_odd_number_of_different_servers() {
    let [a, b, c, d] = ["redis://a:1", "redis://b:1", "redis://a:2", "redis://d"];
    assert!(made(&[a, b, c]).is_ok());
    for (nodes, why) in [
        (&[a, b][..], "odd number"),
        (&[a, b, c, d], "odd number"),
        (&[a], "odd number"),
        (&[a, b, "redis://A:1/3"], "named twice"),
        (&[a, b, "redis://d"], ""),
        (&[d, b, "redis://d:6379"], "named twice"),
        (&[a, b, "redis://u:p@c"], "node 3"),
    ] {
        match made(nodes) {
            Ok(_) => assert!(why.is_empty(), "{nodes:?}"),
            Err(error) => {
                let told = error.to_string();
                assert!(!why.is_empty() && told.contains(why), "{nodes:?}: {told}");
                assert!(!told.contains("u:p"), "{told}");
            }
        }
    }
}
