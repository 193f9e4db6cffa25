# The operator: one static program, run as nobody, and nothing else. The context is the folder that the program was built into:
#   cargo build --release --target x86_64-unknown-linux-musl -p pawl-operator
#   buildah build --file images/operator.Dockerfile target/x86_64-unknown-linux-musl/release
# There is no shell, and no list of certificate authorities: whom to trust is said by policies and service accounts.
FROM scratch
COPY pawl-operator /pawl-operator
# 8443: the webhook. 4601: metrics and health.
EXPOSE 8443 4601
USER 65532:65532
ENTRYPOINT ["/pawl-operator"]
