//! Law 6 at the API: everything has a bound, and at the bound others are served.

use std::{net::TcpStream, time::Duration};

use crate::{
    raw::{Raw, request},
    sidecar::{POLICY, Sidecar},
};

/// What the process occupies, in bytes.
fn resident(sidecar: &Sidecar) -> usize {
    let pages = std::fs::read_to_string(format!("/proc/{}/statm", sidecar.process.id())).unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

fn open_files(sidecar: &Sidecar) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", sidecar.process.id()))
        .unwrap()
        .count()
}

/// This process needs a file for each connection that it opens.
fn allow_files(count: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    assert!(
        maximum.is_none_or(|maximum| maximum >= count),
        "this test needs `ulimit -Hn` {count} or more"
    );
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(count),
            maximum,
        },
    )
    .unwrap();
}

#[test]
fn of_5000_idle_connections_the_newest_stay_and_others_are_served() {
    allow_files(8_192);
    let sidecar = Sidecar::start();
    let mut active = sidecar.connect();
    let idle: Vec<TcpStream> = (0..5_000)
        .map(|_| TcpStream::connect(sidecar.address).unwrap())
        .collect();
    assert_eq!(sidecar.call("GET", "/v1/locks/p", "").status, 200);
    sidecar.eventually("idle ones are closed", |sidecar| {
        open_files(sidecar) < 1_200
    });
    let closed = idle.iter().take(3_000).filter(|socket| {
        socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        matches!(std::io::Read::read(&mut &**socket, &mut [0]), Ok(0))
    });
    assert_eq!(closed.count(), 3_000, "the oldest");
    let newest = idle.last().unwrap();
    std::io::Write::write_all(
        &mut &*newest,
        request("GET", "/v1/locks/p", "", "").as_bytes(),
    )
    .unwrap();
    newest
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    assert!(std::io::Read::read(&mut &*newest, &mut [0; 9]).unwrap() > 0);
    // The first one was the oldest of all.
    active.ends();
}

#[test]
fn a_connection_that_works_is_not_closed_for_idle_ones() {
    let sidecar = Sidecar::with(&[("p", POLICY)], |_| ());
    sidecar.acquire("p/k", "");
    let mut waiting = sidecar.connect();
    waiting.send(request("POST", "/v1/locks/p/k", "", "{\"wait\":\"1m\"}"));
    sidecar.eventually("it waits", |sidecar| sidecar.waiters("p") == 1);
    let idle: Vec<TcpStream> = (0..1_500)
        .map(|_| TcpStream::connect(sidecar.address).unwrap())
        .collect();
    sidecar.eventually("idle ones are closed", |sidecar| {
        open_files(sidecar) < 1_200
    });
    assert_eq!(sidecar.waiters("p"), 1);
    drop(idle);
}

/// S12: with 64 files it refuses, and neither panics nor spins.
#[test]
fn with_few_files_the_rest_is_refused_and_it_goes_on() {
    let sidecar = Sidecar::with(&[("p", POLICY)], |command| {
        let inner = command.get_program().to_owned();
        let args: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        *command = std::process::Command::new("prlimit");
        command.arg("--nofile=64:64").arg(inner).args(args);
    });
    sidecar.acquire("p/k", "");
    let wait = request("POST", "/v1/locks/p/k", "", "{\"wait\":\"1m\"}");
    let mut waiting: Vec<Raw> = Vec::new();
    let mut refused = 0;
    for _ in 0..100 {
        let mut raw = sidecar.connect();
        if raw.try_send(&wait) && raw.is_silent(Duration::from_millis(30)) {
            waiting.push(raw);
        } else {
            refused += 1;
        }
    }
    assert!(
        refused > 50 && waiting.len() >= 16,
        "{refused} refused, {} wait",
        waiting.len()
    );
    let answer = sidecar.connect().answer();
    assert_eq!((answer.status, &*answer.code()), (429, "limit_reached"));
    assert_eq!(answer.json()["reason"], "connections");
    waiting.clear();
    sidecar.eventually("they are forgotten", |sidecar| {
        let mut raw = sidecar.connect();
        raw.try_send(request("GET", "/v1/locks/p", "", ""))
            && raw
                .answer_or_end()
                .is_some_and(|answer| answer.status == 200)
    });
    let cpu = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", sidecar.process.id())).unwrap();
        let fields: Vec<u64> = stat
            .rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(|n| n.parse().unwrap())
            .collect();
        fields[0] + fields[1]
    };
    let before = cpu();
    std::thread::sleep(Duration::from_secs(1));
    assert!(cpu() - before < 50, "it spins");
}

#[test]
fn waiters_beyond_the_policys_bound_are_429() {
    let policy = POLICY.replace("keys: {", "keys: {maxWaiters: 2, ");
    let narrow = POLICY.replace("keys: {", "keys: {maxHeld: 2, ");
    let sidecar = Sidecar::with(&[("p", &policy), ("narrow", &narrow)], |_| ());
    sidecar.acquire("p/k", "");
    let mut waiting = [sidecar.connect(), sidecar.connect()];
    for raw in &mut waiting {
        raw.send(request("POST", "/v1/locks/p/k", "", "{\"wait\":\"1m\"}"));
    }
    sidecar.eventually("two wait", |sidecar| sidecar.waiters("p") == 2);
    let answer = sidecar.call("POST", "/v1/locks/p/k", "{\"wait\":\"1m\"}");
    assert_eq!((answer.status, &*answer.code()), (429, "limit_reached"));
    assert_eq!(
        (
            answer.json()["reason"].as_str(),
            answer.json()["limit"].as_u64()
        ),
        (Some("max_waiters"), Some(2))
    );
    assert!(answer.header("retry-after").is_some());
    sidecar.acquire("narrow/a", "");
    sidecar.acquire("narrow/b", "");
    let answer = sidecar.call("POST", "/v1/locks/narrow/c", "");
    assert_eq!(
        (answer.status, answer.json()["reason"].as_str()),
        (429, Some("max_held"))
    );
}

/// "10,000 parked waiters <= 12 KB each", with a tenth of them.
#[test]
fn a_waiter_costs_less_than_12_kb() {
    allow_files(8_192);
    let sidecar = Sidecar::start();
    sidecar.acquire("p/k", "{\"ttl\":\"5m\"}");
    let wait = request(
        "POST",
        "/v1/locks/p/k",
        "User-Agent: test\r\nAccept: */*\r\n",
        "{\"wait\":\"1m\"}",
    );
    let before = resident(&sidecar);
    let waiting: Vec<Raw> = (0..1_000)
        .map(|_| {
            let mut raw = sidecar.connect();
            raw.send(&wait);
            raw
        })
        .collect();
    sidecar.eventually("all wait", |sidecar| sidecar.waiters("p") == 1_000);
    let each = resident(&sidecar).saturating_sub(before) / 1_000;
    assert!(each < 12 * 1024, "{each} B");
    drop(waiting);
    sidecar.eventually("nobody waits", |sidecar| sidecar.waiters("p") == 0);
}

/// TESTS.md 3: "a million distinct keys: memory and metric series stay bounded", with a hundred thousand.
#[test]
fn many_distinct_keys_leave_nothing_behind() {
    let sidecar = Sidecar::start();
    let series = || {
        Raw::connect(sidecar.admin)
            .call("GET", "/metrics", "")
            .body
            .lines()
            .count()
    };
    let cycle = |from: u32| {
        let mut raw = sidecar.connect();
        for n in (from..from + 50_000).step_by(500) {
            let acquires: String = (n..n + 500)
                .map(|n| request("POST", &format!("/v1/locks/p/key/{n}"), "", ""))
                .collect();
            raw.send(acquires);
            let releases: String = (0..500)
                .map(|_| {
                    format!(
                        "/v1/leases/{}",
                        raw.answer().json()["leaseId"].as_str().unwrap()
                    )
                })
                .map(|path| request("DELETE", &path, "", ""))
                .collect();
            raw.send(releases);
            for _ in 0..500 {
                assert_eq!(raw.answer().status, 204);
            }
        }
    };
    cycle(0);
    let (memory, lines) = (resident(&sidecar), series());
    cycle(50_000);
    let grown = resident(&sidecar).saturating_sub(memory);
    assert!(grown < 16 << 20, "{grown} B more");
    assert_eq!(series(), lines);
}
