# Programs of Debian's packages with the libraries they need, and nothing else. Which, says e2e/src/cluster/images/debian.rs.
FROM scratch
ARG COMMAND
COPY rootfs/ /
ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
USER 65532:65532
ENV COMMAND=$COMMAND
ENTRYPOINT ["/bin/bash", "-c", "exec $COMMAND \"$@\"", "--"]
