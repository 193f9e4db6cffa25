//! The scripts. Each is sent by its hash; a server that does not know it is sent the text.
//!
//! Scripts that give something (`acquire`, `fence`, `probe`) are refused by a server that is out of memory before they
//! run; those that take away or keep (`release`, `renew`, `abandon`) run all the same (`allow-oom`), so a full server
//! never costs a lock that is held. A release with a next attempt needs no more memory than it frees.

use std::sync::LazyLock;

/// A Lua script and its SHA-1.
pub struct Script {
    text: &'static str,
    hash: String,
}

impl Script {
    /// A script.
    pub fn new(text: &'static str) -> Self {
        Self {
            text,
            hash: redis::Script::new(text).get_hash().to_owned(),
        }
    }

    /// What `EVAL` takes.
    pub const fn text(&self) -> &'static str {
        self.text
    }

    /// What `EVALSHA` takes: 40 hexadecimal digits.
    pub fn hash(&self) -> &str {
        &self.hash
    }
}

macro_rules! script {
    ($($part:expr),+) => {
        LazyLock::new(|| Script::new(concat!($($part),+)))
    };
}

pub(super) static ACQUIRE: LazyLock<Script> = script!(
    "#!lua\n",
    include_str!("scripts/acquire_free.lua"),
    include_str!("scripts/common.lua"),
    include_str!("scripts/acquire_fn.lua"),
    include_str!("scripts/acquire.lua")
);
pub(super) static RELEASE: LazyLock<Script> = script!(
    "#!lua flags=allow-oom\n",
    include_str!("scripts/release_free.lua"),
    include_str!("scripts/common.lua"),
    include_str!("scripts/acquire_fn.lua"),
    include_str!("scripts/release.lua")
);
pub(super) static RENEW: LazyLock<Script> = script!(
    "#!lua flags=allow-oom\n",
    include_str!("scripts/common.lua"),
    include_str!("scripts/renew.lua")
);
pub(super) static ABANDON: LazyLock<Script> = script!(
    "#!lua flags=allow-oom\n",
    include_str!("scripts/common.lua"),
    include_str!("scripts/abandon.lua")
);
pub(super) static TAKE_BACK: LazyLock<Script> = script!(
    "#!lua flags=allow-oom\n",
    include_str!("scripts/common.lua"),
    include_str!("scripts/take_back.lua")
);
pub(super) static RAISE: LazyLock<Script> = script!(
    "#!lua flags=allow-oom\n",
    include_str!("scripts/common.lua"),
    include_str!("scripts/raise.lua")
);
pub(super) static INSPECT: LazyLock<Script> = script!(include_str!("scripts/inspect.lua"));
pub(super) static FENCE: LazyLock<Script> = script!(include_str!("scripts/fence.lua"));
pub(super) static PROBE: LazyLock<Script> = script!(include_str!("scripts/probe.lua"));
