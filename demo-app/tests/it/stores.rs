//! What the bank relies on in its books, the same on SQLite and on Postgres.

use std::time::Duration;

use pawl_demo::clock;
use pawl_demo::store::{
    self, Account, Change, Guard, Options, Order, Outcome, Store, StoreError, Totals,
};

use crate::postgres::Server;
use crate::support::books;

fn take(account: &Account, amount: i64, guard: Guard) -> Change {
    Change {
        account: Some((account.clone(), amount, guard)),
        order: None,
        mode: "none",
        replica: "test".to_owned(),
    }
}

fn pay(account: &Account, order: &Order, guard: Guard) -> Change {
    let order_change = Some((order.clone(), "paid".to_owned(), guard));
    Change {
        order: order_change,
        ..take(account, order.amount, PLAIN)
    }
}

const PLAIN: Guard = Guard {
    token: None,
    unchanged: false,
};

fn with_token(token: i64) -> Guard {
    Guard {
        token: Some(token),
        unchanged: false,
    }
}

const UNCHANGED: Guard = Guard {
    token: None,
    unchanged: true,
};

async fn read(store: &dyn Store, user: &str) -> Account {
    store.account(user).await.unwrap().unwrap()
}

/// Everything that is asked of both stores.
async fn all(store: &dyn Store, second: &dyn Store) {
    lost_updates_are_counted_exactly(store, second).await;
    a_fenced_write_is_refused_below_the_highest_token(store).await;
    a_write_is_refused_when_somebody_else_wrote(store).await;
    opening_again_refuses_what_was_read_before(store).await;
    a_payment_is_whole_or_not_at_all(store).await;
    a_locked_row_keeps_others_out(store, second).await;
    a_lock_that_is_dropped_wrote_nothing(store, second).await;
    sums_do_not_overflow(store).await;
    reports_come_and_go(store, second).await;
}

async fn lost_updates_are_counted_exactly(store: &dyn Store, second: &dyn Store) {
    let opened = store.open_account("lost", 1000).await.unwrap();
    assert_eq!(
        (opened.balance, opened.expected(), opened.lost_updates()),
        (1000, 1000, 0)
    );
    // Three read the same; the last to write wins, so two are lost. A fourth reads what is there and is not.
    for amount in [100, 50, 7] {
        assert_eq!(
            second.apply(take(&opened, amount, PLAIN)).await.unwrap(),
            Outcome::Applied
        );
    }
    let now = read(store, "lost").await;
    assert_eq!(
        (now.balance, now.expected(), now.lost_updates(), now.applied),
        (993, 843, 2, 3)
    );
    store.apply(take(&now, 3, PLAIN)).await.unwrap();
    let now = read(second, "lost").await;
    assert_eq!(
        (now.balance, now.expected(), now.lost_updates(), now.applied),
        (990, 840, 2, 4)
    );
    assert_eq!(
        store.ledger("lost").await.unwrap(),
        (160, 4),
        "the ledger has every acknowledged one"
    );
    assert_eq!(now.expected(), now.initial - 160);
    let totals = store.totals().await.unwrap();
    assert_eq!(
        totals,
        Totals {
            balance: 990.0,
            expected: 840.0,
            lost_updates: 2.0
        }
    );
    let again = store.open_account("lost", 5).await.unwrap();
    assert_eq!(
        (
            again.lost_updates(),
            again.applied,
            store.ledger("lost").await.unwrap()
        ),
        (0, 0, (0, 0))
    );
    let totals = store.totals().await.unwrap();
    assert_eq!(
        totals,
        Totals {
            balance: 5.0,
            expected: 5.0,
            lost_updates: 2.0
        },
        "a counter never goes back"
    );
}

async fn a_fenced_write_is_refused_below_the_highest_token(store: &dyn Store) {
    let opened = store.open_account("fence", 100).await.unwrap();
    assert_eq!(
        store.apply(take(&opened, 1, with_token(5))).await.unwrap(),
        Outcome::Applied
    );
    assert_eq!(
        store.apply(take(&opened, 1, with_token(4))).await.unwrap(),
        Outcome::Stale { highest: 5 }
    );
    let now = read(store, "fence").await;
    assert_eq!((now.balance, now.last_token, now.applied), (99, 5, 1));
    assert_eq!(
        store.apply(take(&now, 1, with_token(5))).await.unwrap(),
        Outcome::Applied
    );
    assert_eq!(
        store.ledger("fence").await.unwrap().1,
        2,
        "a refused write leaves no entry"
    );
    let again = store.open_account("fence", 100).await.unwrap();
    assert_eq!(
        store.apply(take(&again, 1, with_token(4))).await.unwrap(),
        Outcome::Stale { highest: 5 }
    );
    assert!(store.create_order("fence", 10, Some(7)).await.unwrap());
    let order = store.order("fence").await.unwrap().unwrap();
    let set = |guard| Change {
        account: None,
        order: Some((order.clone(), "cancelled".to_owned(), guard)),
        mode: "none",
        replica: String::new(),
    };
    assert_eq!(
        store.apply(set(with_token(6))).await.unwrap(),
        Outcome::Stale { highest: 7 }
    );
    assert_eq!(
        store.apply(set(with_token(7))).await.unwrap(),
        Outcome::Applied
    );
}

async fn a_write_is_refused_when_somebody_else_wrote(store: &dyn Store) {
    let read_by_both = store.open_account("version", 100).await.unwrap();
    assert_eq!(
        store
            .apply(take(&read_by_both, 1, UNCHANGED))
            .await
            .unwrap(),
        Outcome::Applied
    );
    assert_eq!(
        store
            .apply(take(&read_by_both, 1, UNCHANGED))
            .await
            .unwrap(),
        Outcome::Changed
    );
    let now = read(store, "version").await;
    assert_eq!((now.balance, now.lost_updates()), (99, 0));
}

async fn opening_again_refuses_what_was_read_before(store: &dyn Store) {
    let before = store.open_account("epoch", 100).await.unwrap();
    store.open_account("epoch", 500).await.unwrap();
    assert_eq!(
        store.apply(take(&before, 1, PLAIN)).await.unwrap(),
        Outcome::Changed
    );
    assert_eq!(read(store, "epoch").await.balance, 500);
}

async fn a_payment_is_whole_or_not_at_all(store: &dyn Store) {
    let account = store.open_account("pay", 100).await.unwrap();
    assert!(store.create_order("pay", 10, None).await.unwrap());
    assert!(!store.create_order("pay", 20, None).await.unwrap());
    let order = store.order("pay").await.unwrap().unwrap();
    assert_eq!((order.amount, order.status.as_str()), (10, "pending"));
    store.apply(pay(&account, &order, UNCHANGED)).await.unwrap();
    let account = read(store, "pay").await;
    assert_eq!(account.balance, 90);
    assert_eq!(
        store.apply(pay(&account, &order, UNCHANGED)).await.unwrap(),
        Outcome::Changed
    );
    let account = read(store, "pay").await;
    assert_eq!(
        (
            account.balance,
            account.applied,
            store.ledger("pay").await.unwrap()
        ),
        (90, 1, (10, 1))
    );
    assert_eq!(store.order("pay").await.unwrap().unwrap().status, "paid");
}

async fn a_locked_row_keeps_others_out(store: &dyn Store, second: &dyn Store) {
    store.open_account("row", 100).await.unwrap();
    store.create_order("row", 10, None).await.unwrap();
    let locked = store.lock(Some("row"), Some("row")).await.unwrap();
    let held = locked.account().unwrap().clone();
    assert_eq!(locked.order().unwrap().amount, 10);
    let pause = Duration::from_millis(150);
    let asked = clock::now();
    let (first, other) = tokio::join!(
        async {
            tokio::time::sleep(pause).await;
            locked.apply(take(&held, 30, PLAIN)).await
        },
        second.lock(Some("row"), None)
    );
    assert_eq!(first.unwrap(), Outcome::Applied);
    assert!(asked.elapsed() >= pause);
    let other = other.unwrap();
    let seen = other.account().unwrap().clone();
    assert_eq!(
        seen.balance, 70,
        "the second lock reads what the first one wrote"
    );
    other.apply(take(&seen, 20, PLAIN)).await.unwrap();
    let now = read(store, "row").await;
    assert_eq!((now.balance, now.lost_updates()), (50, 0));
    assert!(
        store
            .lock(Some("nobody"), None)
            .await
            .unwrap()
            .account()
            .is_none()
    );
}

async fn a_lock_that_is_dropped_wrote_nothing(store: &dyn Store, second: &dyn Store) {
    store.open_account("drop", 100).await.unwrap();
    drop(store.lock(Some("drop"), None).await.unwrap());
    let again = tokio::time::timeout(Duration::from_secs(5), second.lock(Some("drop"), None))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(again.account().unwrap().balance, 100);
    drop(again);
    store.open_account("drop", 50).await.unwrap();
    assert_eq!(read(second, "drop").await.balance, 50);
}

async fn sums_do_not_overflow(store: &dyn Store) {
    let opened = store.open_account("much", i64::MAX).await.unwrap();
    let refused = store
        .apply(take(&opened, i64::MAX, PLAIN))
        .await
        .unwrap_err();
    assert!(matches!(refused, StoreError::Overflow), "{refused:?}");
    let low = Account {
        balance: i64::MIN,
        ..opened
    };
    assert!(matches!(
        store.apply(take(&low, 1, PLAIN)).await,
        Err(StoreError::Overflow)
    ));
    store.totals().await.unwrap();
    // In another millisecond than those before: the newest is looked for below.
    tokio::time::sleep(Duration::from_millis(2)).await;
    store.open_account("much", 0).await.unwrap();
}

async fn reports_come_and_go(store: &dyn Store, second: &dyn Store) {
    let age = Duration::from_secs(20);
    store.announce("b", "{\"n\":1}").await.unwrap();
    second.announce("a", "{\"n\":2}").await.unwrap();
    store.announce("b", "{\"n\":3}").await.unwrap();
    assert_eq!(
        second.reports(age).await.unwrap(),
        ["{\"n\":2}", "{\"n\":3}"]
    );
    store.withdraw("a").await.unwrap();
    assert_eq!(second.reports(age).await.unwrap(), ["{\"n\":3}"]);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(
        store
            .reports(Duration::from_millis(5))
            .await
            .unwrap()
            .is_empty(),
        "too old"
    );
    let newest = store.newest_accounts(2).await.unwrap();
    assert_eq!(newest.len(), 2);
    assert_eq!(newest[0].user_id, "much", "{newest:?}");
}

#[tokio::test]
async fn sqlite_keeps_the_books() {
    let dir = tempfile::tempdir().unwrap();
    let open = || async {
        store::open(&books(dir.path()), &Options::default())
            .await
            .unwrap()
    };
    all(&*open().await, &*open().await).await;
}

#[tokio::test]
async fn sqlite_is_opened_by_many_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let opening =
        (0..12).map(|_| async { store::open(&books(dir.path()), &Options::default()).await });
    for opened in futures::future::join_all(opening).await {
        opened.unwrap();
    }
}

#[tokio::test]
async fn postgres_keeps_the_books() {
    let server = Server::start().await;
    let open = || async {
        store::open(&server.url("disable"), &Options::default())
            .await
            .unwrap()
    };
    let (one, two) = tokio::join!(open(), open());
    all(&*one, &*two).await;
}

#[tokio::test]
async fn postgres_is_reached_by_tls_only_when_its_certificate_is_trusted() {
    let (server, certificate) = Server::start_tls().await;
    let trusting = Options {
        ca_file: Some(certificate),
        ..Options::default()
    };
    let store = store::open(&server.url("require"), &trusting)
        .await
        .unwrap();
    assert_eq!(store.open_account("tls", 5).await.unwrap().balance, 5);
    for (url, options) in [
        (server.url("require"), Options::default()),
        (server.url("prefer"), Options::default()),
        (server.url("disable"), trusting),
    ] {
        let error = store::open(&url, &options).await.unwrap_err();
        assert_eq!(error.category(), "unreachable", "{url}: {error}");
    }
}

#[tokio::test]
async fn a_bank_and_a_race_run_on_postgres() {
    let server = Server::start().await;
    let dir = tempfile::tempdir().unwrap();
    let sidecar = crate::fake_sidecar::program(dir.path(), crate::fake_sidecar::Fault::None);
    let out = dir.path().join("out");
    let mut command = crate::support::demo(&[
        "race",
        "--act",
        "race",
        "--replicas",
        "3",
        "--store",
        &server.url("disable"),
    ]);
    command.args([
        "--out",
        out.to_str().unwrap(),
        "--sidecar-bin",
        sidecar.to_str().unwrap(),
    ]);
    let played = crate::support::output(command).await;
    let shown = String::from_utf8_lossy(&played.stdout);
    assert!(
        played.status.success(),
        "{shown}\n{}",
        String::from_utf8_lossy(&played.stderr)
    );
    assert!(
        shown.contains("optimistic") && shown.contains("PASSED"),
        "{shown}"
    );
}

#[tokio::test]
async fn a_store_that_is_not_there_is_told_without_its_password() {
    for url in [
        "postgres://ann:hidden@127.0.0.1:1/bank",
        "postgres://ann:hidden@[bad/bank",
        "mysql://ann:hidden@h/b",
    ] {
        let error = store::open(url, &Options::default()).await.unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("hidden"), "{shown}");
        assert_eq!(
            error.category(),
            if url.contains("127") {
                "unreachable"
            } else {
                "config"
            }
        );
    }
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        ca_file: Some(dir.path().join("none.pem")),
        ..Options::default()
    };
    let error = store::open("postgres://ann@127.0.0.1:1/bank", &options)
        .await
        .unwrap_err();
    assert_eq!(error.category(), "config");
}
