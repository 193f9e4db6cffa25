//! The pod's bearer token: made by the sidecar, read by the application from a file that only the pod sees.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use pawl_kit::secrets::Secret;

use crate::audience::Audience;

/// How many characters a token has: 256 random bits in hexadecimal digits.
const LENGTH: usize = 64;

/// The pod's bearer token. Never shown.
#[derive(Clone, Debug)]
pub struct Token(Secret);

impl Token {
    /// The token of this file, which is made if it is not there: 64 hexadecimal digits, readable by `audience`.
    /// A sidecar that is restarted finds the token that the application has read already.
    ///
    /// # Errors
    /// When the file cannot be read or written, or holds something else than a token.
    pub fn load_or_create(path: &Path, audience: Audience) -> io::Result<Self> {
        match File::open(path) {
            Ok(file) => read(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => create(path, audience),
            Err(error) => Err(error),
        }
    }

    /// Whether this is the token. Takes the same time for every text of the right length.
    pub fn matches(&self, presented: &str) -> bool {
        let (token, presented) = (self.0.expose().as_bytes(), presented.as_bytes());
        let differing = token
            .iter()
            .zip(presented)
            .fold(0, |differing, (a, b)| differing | (a ^ b));
        token.len() == presented.len() && std::hint::black_box(differing) == 0
    }
}

fn read(file: File) -> io::Result<Token> {
    let mut text = String::new();
    file.take(LENGTH as u64 + 2).read_to_string(&mut text)?;
    let token = text.trim_end();
    if token.len() == LENGTH && token.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        Ok(Token(Secret::new(token.to_owned())))
    } else {
        let problem = "the file is there, but holds no token of 64 hexadecimal digits";
        Err(io::Error::new(io::ErrorKind::InvalidData, problem))
    }
}

/// Written beside and renamed: a reader finds all of it or nothing.
fn create(path: &Path, audience: Audience) -> io::Result<Token> {
    let bits: [u128; 2] = [rand::random(), rand::random()];
    let token = format!("{:032x}{:032x}", bits[0], bits[1]);
    let beside = path.with_added_extension("new");
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut options = File::options();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(audience.token_mode())
        .open(&beside)?;
    // Once more, whatever the process's mask took away.
    file.set_permissions(fs::Permissions::from_mode(audience.token_mode()))?;
    file.write_all(token.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    Ok(Token(Secret::new(token)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_outlives_the_sidecar_and_is_for_the_group_at_most() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let token = Token::load_or_create(&path, Audience::Group).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.len(), LENGTH);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o007, 0, "{mode:o}");
        assert!(token.matches(&text));
        assert!(
            Token::load_or_create(&path, Audience::Group)
                .unwrap()
                .matches(&text)
        );
        for wrong in ["", &text[1..], &format!("{text}0"), &"0".repeat(LENGTH)] {
            assert!(!token.matches(wrong), "{wrong}");
        }
        assert!(!format!("{token:?}").contains(&text[..8]));
    }

    #[test]
    fn a_shared_token_is_read_by_every_user_and_written_by_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        Token::load_or_create(&path, Audience::Everyone).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644, "{mode:o}");
    }

    #[test]
    fn a_file_that_holds_something_else_is_not_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        fs::write(&path, "not a token").unwrap();
        assert!(Token::load_or_create(&path, Audience::Group).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "not a token");
        assert!(Token::load_or_create(&dir.path().join("no/dir"), Audience::Group).is_err());
    }
}
