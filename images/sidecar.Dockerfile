# The sidecar: one static program, run as nobody, and nothing else. The context is the folder that the program was built into:
#   cargo build --release --target x86_64-unknown-linux-musl -p pawl-sidecar
#   buildah build --file images/sidecar.Dockerfile target/x86_64-unknown-linux-musl/release
# There is no shell, and no list of certificate authorities: whom to trust is said by policies and service accounts.
FROM scratch
COPY pawl-sidecar /pawl-sidecar
# 4600: the API, on the loopback of its pod. 4601: metrics, health and status.
EXPOSE 4600 4601
USER 65532:65532
ENTRYPOINT ["/pawl-sidecar"]
