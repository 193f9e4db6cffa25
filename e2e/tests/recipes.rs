//! Every recipe of `docs/recipes`, in each language, against a real sidecar.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program")]
#![allow(missing_docs, clippy::missing_panics_doc, reason = "a test program")]

mod recipes {
    pub(crate) mod program;
    pub(crate) mod stories;
}

use recipes::{program::Language, stories};

macro_rules! in_each_language {
    ($($language:ident => $variant:ident),*) => {$(
        mod $language {
            use super::{Language, stories};

            #[tokio::test]
            async fn cron_singleton_runs_one_at_a_time() {
                stories::cron_singleton(Language::$variant).await;
            }

            #[tokio::test]
            async fn leader_election_has_one_leader_and_a_successor() {
                stories::leader_election(Language::$variant).await;
            }

            #[tokio::test]
            async fn migration_lock_migrates_once() {
                stories::migration_lock(Language::$variant).await;
            }

            #[tokio::test]
            async fn fenced_write_refuses_a_late_one() {
                stories::fenced_write(Language::$variant).await;
            }
        }
    )*};
}
in_each_language!(curl => Curl, python => Python, javascript => JavaScript, go => Go, java => Java);
