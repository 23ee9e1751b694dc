# syntax=docker/dockerfile:1
# The image of the operator, for the kind of machine that it is built on:
#
#   docker build --build-arg REVISION="$(git rev-parse HEAD)" --build-arg SOURCE_DATE_EPOCH="$(git log -1 --format=%ct)" .
#
# tests/support/image/ says what is in it; `cargo image` makes the same image without Docker, and a test compares the two.
#
# The tags of what builds it move: a later build of the same commit has a newer C library, and so other bytes.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
ARG REVISION=unknown
ARG SOURCE_DATE_EPOCH=0
# The mounts keep Cargo's downloads, all compiled dependencies and the tools from one build to the next.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,sharing=locked \
    cargo image --rootfs /rootfs

# Distroless with nothing left over: there is no base image. Rust's standard library and the C library are in the program,
# so their faults are mended by a new build, on a newer image above.
FROM scratch
COPY --from=build /rootfs/ /
ARG REVISION=unknown
LABEL org.opencontainers.image.title="whatsapp-operator" \
      org.opencontainers.image.description="Kubernetes operator that registers WhatsApp Business phone numbers with Meta's Cloud API, once" \
      org.opencontainers.image.url="https://github.com/whatsapp-operator/whatsapp-operator" \
      org.opencontainers.image.source="https://github.com/whatsapp-operator/whatsapp-operator" \
      org.opencontainers.image.documentation="https://github.com/whatsapp-operator/whatsapp-operator/blob/main/README.md" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}"
ENV SSL_CERT_FILE="/etc/ssl/certs/ca-certificates.crt"
USER 65532:65532
EXPOSE 8080/tcp
ENTRYPOINT ["/whatsapp-operator"]
