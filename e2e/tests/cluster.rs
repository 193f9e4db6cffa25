//! Pawl in a real cluster: API server, kubelet, containers; operator and sidecars from the images that a release is built from.
//!
//! The tests share one cluster and run one after the other, in the order of [`TESTS`]: what the machine does is then the same in
//! every run. With `PAWL_CLUSTER_KUBECONFIG` set they use that cluster, which must have the images
//! (`pawl-cluster archives`); else they start one in a folder of its own and end it after the last test, also after a failed one.
//! An argument selects tests by a part of their names.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test program"
)]

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
};

use pawl_kit::clock::Clock;

#[path = "cluster/bank.rs"]
mod bank;
#[path = "cluster/faults.rs"]
mod faults;
#[path = "cluster/holders.rs"]
mod holders;
#[path = "cluster/injection.rs"]
mod injection;
#[path = "cluster/install.rs"]
mod install;
#[path = "cluster/kube.rs"]
mod kube;
#[path = "cluster/lifecycle.rs"]
mod lifecycle;
#[path = "cluster/locks.rs"]
mod locks;
#[path = "cluster/monitoring.rs"]
mod monitoring;
#[path = "cluster/policies.rs"]
mod policies;
#[path = "cluster/secrets.rs"]
mod secrets;
#[path = "cluster/upgrade.rs"]
mod upgrade;

use kube::Kube;

type Test = (&'static str, fn(&Kube));

/// Each test with its name.
macro_rules! tests {
    ($($test:path),+ $(,)?) => {
        &[$((stringify!($test), $test)),+]
    };
}

/// All of them. The first installs the chart that those in between need, the last takes it away.
const TESTS: &[Test] = tests![
    install::one_replica_leads_however_many_there_are,
    install::helm_test_passes,
    monitoring::prometheus_finds_both_operators,
    policies::every_example_is_accepted,
    policies::every_refused_policy_is_refused_with_its_message,
    policies::a_change_is_live_within_five_seconds,
    injection::a_pod_without_the_label_gets_nothing,
    injection::a_job_locks_with_its_first_request_and_completes,
    injection::a_bad_annotation_refuses_the_pod_with_the_reason,
    bank::money_is_lost_without_a_lock,
    bank::nothing_is_lost_while_scaled_one_five_two,
    bank::nothing_is_lost_with_any_backend,
    holders::an_evicted_holder_hands_over,
    holders::a_holder_that_dies_or_hangs_is_followed_by_another,
    holders::running_leases_keep_their_terms,
    secrets::a_rotated_password_is_used_without_a_restart,
    secrets::a_bad_certificate_is_refused_and_a_new_authority_trusted_without_a_restart,
    monitoring::each_fault_fires_its_alert,
    faults::locks_go_on_without_the_operator,
    faults::a_leader_that_stood_still_writes_nothing,
    faults::the_api_server_is_gone_for_longer_than_a_lease,
    upgrade::an_earlier_chart_is_upgraded_under_load,
    install::uninstall_leaves_nothing,
];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let is_list = std::env::args().any(|word| word == "--list");
    let filter = arguments.find(|word| !word.starts_with('-'));
    let chosen: Vec<&Test> = TESTS
        .iter()
        .filter(|(name, _)| {
            filter
                .as_ref()
                .is_none_or(|part| name.contains(part.as_str()))
        })
        .collect();
    if is_list {
        for (name, _) in &chosen {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    if chosen.is_empty() {
        println!(
            "test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; {} filtered out",
            TESTS.len()
        );
        return ExitCode::SUCCESS;
    }
    println!("running {} tests", chosen.len());
    let clock = Clock::system();
    let begun = clock.now();
    let mut failed = 0;
    {
        let kube = Kube::start();
        // A test that is run alone needs it too.
        install::install(&kube);
        for (name, test) in &chosen {
            let start = clock.now();
            let is_good = catch_unwind(AssertUnwindSafe(|| test(&kube))).is_ok();
            let seconds = clock.now().saturating_since(start).as_secs_f64();
            println!(
                "test {name} ... {} ({seconds:.1} s)",
                if is_good { "ok" } else { "FAILED" }
            );
            if !is_good {
                failed += 1;
                kube.dump();
            }
        }
    }
    let (result, code) = if failed == 0 && lifecycle::nothing_is_left() {
        ("ok", ExitCode::SUCCESS)
    } else {
        ("FAILED", ExitCode::FAILURE)
    };
    println!(
        "test result: {result}. {} passed; {failed} failed; 0 ignored; 0 measured; {} filtered out; finished in {:.1}s",
        chosen.len() - failed,
        TESTS.len() - chosen.len(),
        clock.now().saturating_since(begun).as_secs_f64()
    );
    code
}
