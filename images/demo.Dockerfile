# The bank that loses money, and then does not: one static program, run as nobody, and nothing else. The context is the folder that the program was built into:
#   cargo build --release --target x86_64-unknown-linux-musl -p pawl-demo
#   buildah build --file images/demo.Dockerfile target/x86_64-unknown-linux-musl/release
# There is no shell, and no list of certificate authorities: whom to trust is said by policies and service accounts.
FROM scratch
COPY pawl-demo /pawl-demo
EXPOSE 8080
USER 65532:65532
ENTRYPOINT ["/pawl-demo"]
