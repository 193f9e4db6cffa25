//! Configuration errors that explain themselves, and values that are checked before anything is bound.
//!
//! A daemon parses everything first, and on the first [`ConfigError`] prints it and exits with 64 (`EX_USAGE` of
//! `sysexits.h`): nothing was opened, nothing half-started.

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::str::FromStr;

/// The exit code for bad configuration: `EX_USAGE` of `sysexits.h`.
pub const EX_USAGE: u8 = 64;

/// Longest identity, in bytes: that of a DNS name.
const MAX_IDENTITY: usize = 253;

/// A setting by its two names. It shows as `--listen (PAWL_LISTEN)`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Setting {
    /// The flag with its dashes; none for what only the environment sets.
    pub flag: Option<&'static str>,
    /// The environment variable.
    pub env: &'static str,
}

impl Setting {
    /// A flag that is also an environment variable.
    pub const fn new(flag: &'static str, env: &'static str) -> Self {
        Self {
            flag: Some(flag),
            env,
        }
    }

    /// An environment variable alone.
    pub const fn env(env: &'static str) -> Self {
        Self { flag: None, env }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.flag {
            Some(flag) => write!(f, "{flag} ({})", self.env),
            None => f.write_str(self.env),
        }
    }
}

/// A setting that cannot be used: which, why, and what to do instead. Never holds a secret, since values that are
/// secret are no settings but files.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{setting}: {problem}; {remedy}")]
pub struct ConfigError {
    setting: Setting,
    problem: String,
    remedy: String,
}

impl ConfigError {
    /// `problem` and `remedy` are half-sentences without a full stop: "`x` is not a port", "give 1 to 65535".
    pub fn new(setting: Setting, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            setting,
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }

    /// The setting at fault.
    pub const fn setting(&self) -> Setting {
        self.setting
    }

    /// Tells it on standard error and answers the exit code 64, for `main` to return.
    pub fn report(&self, program: &str) -> ExitCode {
        eprintln!("{program}: {self}\nTry '{program} --help' for all settings.");
        ExitCode::from(EX_USAGE)
    }
}

/// An IP address and a port, such as `127.0.0.1:4600` or `[::1]:4600`. Names are not looked up: what a daemon listens
/// on must not depend on a resolver. Port 0 lets the system choose.
pub fn address(setting: Setting, text: &str) -> Result<SocketAddr, ConfigError> {
    text.trim().parse().map_err(|_| {
        ConfigError::new(
            setting,
            format!("`{}` is not an address", shown(text)),
            "give IP:PORT, such as 127.0.0.1:4600 or [::1]:4600",
        )
    })
}

/// A number of the environment, `default` when the variable is not set or empty.
pub fn env_number<T>(
    setting: Setting,
    default: T,
    range: RangeInclusive<T>,
) -> Result<T, ConfigError>
where
    T: FromStr + PartialOrd + fmt::Display,
{
    match std::env::var_os(setting.env) {
        None => Ok(default),
        Some(text) if text.is_empty() => Ok(default),
        Some(text) => number(setting, &text.to_string_lossy(), range),
    }
}

/// A whole number in `range`.
pub fn number<T>(setting: Setting, text: &str, range: RangeInclusive<T>) -> Result<T, ConfigError>
where
    T: FromStr + PartialOrd + fmt::Display,
{
    text.trim()
        .parse()
        .ok()
        .filter(|value| range.contains(value))
        .ok_or_else(|| {
            ConfigError::new(
                setting,
                format!("`{}` is not a number in its range", shown(text)),
                format!("give {} to {}", range.start(), range.end()),
            )
        })
}

/// The name that this process goes by, and the default owner of its locks: `given`, else `POD_NAME`, else `HOSTNAME`,
/// else the host name. 1 to 253 bytes of printable ASCII without spaces.
///
/// # Errors
/// When the first of these that is set and not empty is no such name, or none is set.
pub fn identity(setting: Setting, given: Option<&str>) -> Result<String, ConfigError> {
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    identity_among([
        (setting, given.map(str::to_owned)),
        (Setting::env("POD_NAME"), std::env::var("POD_NAME").ok()),
        (Setting::env("HOSTNAME"), std::env::var("HOSTNAME").ok()),
        (setting, Some(host)),
    ])
    .unwrap_or_else(|| {
        Err(ConfigError::new(
            setting,
            "this host has no name",
            "give a name",
        ))
    })
}

fn identity_among<const N: usize>(
    sources: [(Setting, Option<String>); N],
) -> Option<Result<String, ConfigError>> {
    let (setting, name) = sources
        .into_iter()
        .find_map(|(setting, name)| Some((setting, name.filter(|name| !name.is_empty())?)))?;
    let fits = name.len() <= MAX_IDENTITY && name.bytes().all(|byte| byte.is_ascii_graphic());
    Some(if fits {
        Ok(name)
    } else {
        let problem = format!("`{}` cannot be an identity", shown(&name));
        Err(ConfigError::new(
            setting,
            problem,
            "give 1 to 253 printable ASCII characters without spaces",
        ))
    })
}

/// A value as it may stand in a message: short, on one line.
fn shown(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LISTEN: Setting = Setting::new("--listen", "PAWL_LISTEN");

    #[test]
    fn an_error_names_the_setting_both_ways_and_the_remedy() {
        let error = address(LISTEN, "localhost:4600").unwrap_err();
        assert_eq!(
            error.to_string(),
            "--listen (PAWL_LISTEN): `localhost:4600` is not an address; give IP:PORT, such as 127.0.0.1:4600 or \
             [::1]:4600"
        );
        assert_eq!(
            format!("{:?}", error.report("pawl-test")),
            format!("{:?}", ExitCode::from(64))
        );
    }

    #[test]
    fn addresses_need_an_ip_and_a_port() {
        assert_eq!(address(LISTEN, " 127.0.0.1:0 ").unwrap().port(), 0);
        assert!(address(LISTEN, "[::1]:4600").unwrap().is_ipv6());
        for bad in [
            "",
            ":4600",
            "4600",
            "127.0.0.1",
            "::1:4600:",
            "127.0.0.1:65536",
            "127.0.0.1:-1",
        ] {
            assert!(address(LISTEN, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_number_of_the_environment_is_checked_and_has_a_default() {
        // PATH is set in every test, and is no number.
        assert!(env_number(Setting::env("PATH"), 5, 1..=10).is_err());
        assert_eq!(
            env_number(Setting::env("PAWL_TEST_NOT_SET"), 5, 1..=10),
            Ok(5)
        );
    }

    #[test]
    fn the_first_name_that_is_set_is_the_identity() {
        const POD: Setting = Setting::env("POD_NAME");
        let among = |given: Option<&str>, pod: Option<&str>| {
            identity_among([
                (LISTEN, given.map(str::to_owned)),
                (POD, pod.map(str::to_owned)),
            ])
        };
        assert_eq!(among(Some("a"), Some("b")), Some(Ok("a".to_owned())));
        assert_eq!(among(Some(""), Some("b")), Some(Ok("b".to_owned())));
        assert_eq!(among(None, None), None);
        for bad in ["a b", "a\nb", "ü", &"x".repeat(254)] {
            assert_eq!(among(None, Some(bad)).unwrap().unwrap_err().setting(), POD);
        }
        assert_eq!(identity(LISTEN, Some("me")), Ok("me".to_owned()));
        assert!(identity(LISTEN, None).is_ok(), "this host has a name");
    }

    proptest! {
        #[test]
        fn numbers_outside_of_their_range_are_refused(value in any::<i64>(), low in -100_i64..0, high in 0_i64..100) {
            let answer = number(LISTEN, &value.to_string(), low..=high);
            prop_assert_eq!(answer.ok(), (low..=high).contains(&value).then_some(value));
        }

        #[test]
        fn any_text_stays_on_one_short_line(text in "(?s).{0,300}") {
            if let Err(error) = number(LISTEN, &text, 0..=9) {
                let line = error.to_string();
                prop_assert!(!line.contains('\n') && line.len() < 1000);
            }
        }
    }
}
