//! Who may use the files that the sidecar leaves for the application: the token and the socket.

/// Who may use them, beside the sidecar's own user.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Audience {
    /// The group, which containers share by `fsGroup`.
    #[default]
    Group,
    /// Whoever sees the file. Right on a volume that only the pod has, where the application runs under a user that
    /// the sidecar cannot know; the volume is the boundary then.
    Everyone,
}

impl Audience {
    /// Mode of the token's file: nobody but the sidecar writes it.
    pub const fn token_mode(self) -> u32 {
        match self {
            Self::Group => 0o640,
            Self::Everyone => 0o644,
        }
    }

    /// Mode of the socket: to connect is to write.
    pub const fn socket_mode(self) -> u32 {
        match self {
            Self::Group => 0o660,
            Self::Everyone => 0o666,
        }
    }
}
