//! A script with its keys and arguments.

use redis::{Cmd, ToRedisArgs};

use crate::backend::redis::scripts::Script;

/// A script with its keys and arguments, in the order in which they are added: all keys first.
pub struct Invocation {
    script: &'static Script,
    keys: usize,
    by_hash: Cmd,
}

impl Invocation {
    /// An invocation with `keys` keys; `arguments` is how many arguments there will be about.
    pub fn new(script: &'static Script, keys: usize, arguments: usize) -> Self {
        let count = keys + arguments + 3;
        let mut by_hash = Cmd::with_capacity(count, 64 + count * 40);
        by_hash.arg("EVALSHA").arg(script.hash()).arg(keys);
        Self {
            script,
            keys,
            by_hash,
        }
    }

    /// Adds a key or an argument.
    pub fn arg(&mut self, arg: impl ToRedisArgs) -> &mut Self {
        self.by_hash.arg(arg);
        self
    }

    /// The command for a server that knows the script.
    pub(super) fn by_hash(&self) -> &Cmd {
        &self.by_hash
    }

    /// The command for one that does not.
    pub(super) fn by_text(&self) -> Cmd {
        let mut by_text = Cmd::new();
        by_text.arg("EVAL").arg(self.script.text()).arg(self.keys);
        for argument in self.by_hash.args_iter().skip(3) {
            if let redis::Arg::Simple(argument) = argument {
                by_text.arg(argument);
            }
        }
        by_text
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new("return 1"));

    #[test]
    fn both_commands_have_the_same_keys_and_arguments() {
        let mut invocation = Invocation::new(&SCRIPT, 2, 1);
        invocation.arg("one").arg("two").arg(3);
        let words = |cmd: &Cmd| String::from_utf8(cmd.get_packed_command()).unwrap();
        let by_hash = words(invocation.by_hash());
        let by_text = words(&invocation.by_text());
        let tail = "\r\n$1\r\n2\r\n$3\r\none\r\n$3\r\ntwo\r\n$1\r\n3\r\n";
        assert!(
            by_hash.starts_with("*6\r\n$7\r\nEVALSHA\r\n$40\r\n"),
            "{by_hash}"
        );
        assert!(
            by_text.starts_with("*6\r\n$4\r\nEVAL\r\n$8\r\nreturn 1"),
            "{by_text}"
        );
        assert!(
            by_hash.ends_with(tail) && by_text.ends_with(tail),
            "{by_text}"
        );
    }
}
