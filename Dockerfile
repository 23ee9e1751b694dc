# syntax=docker/dockerfile:1@sha256:87999aa3d42bdc6bea60565083ee17e86d1f3339802f543c0d03998580f9cb89
# The operator's image, for the architecture it is built on; with `--target graph-simulator` that of the simulated Graph API in
# examples/try. `cargo image` reads the last stage and needs no engine.
FROM rust:1.95-bookworm@sha256:6258907abe69656e41cd992e0b705cdcfabcbbe3db374f92ed2d47121282d4a1 AS source
RUN cargo install --locked cargo-auditable@0.7.7 && cargo install --locked cargo-about@0.9.3 --features cli
WORKDIR /src
COPY . .

FROM source AS build-simulator
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target,sharing=locked \
    target="$(uname -m)-unknown-linux-gnu" && cargo fetch --locked && \
    cargo about generate --frozen --fail --manifest-path testkit/Cargo.toml --features cluster --target "$target" about.hbs >/THIRD-PARTY-LICENSES.txt && \
    cat /usr/share/doc/libc6/copyright /usr/share/common-licenses/LGPL-2.1 >>/THIRD-PARTY-LICENSES.txt && \
    RUSTFLAGS=-Ctarget-feature=+crt-static cargo auditable build --frozen --profile image --package whatsapp-operator-testkit \
        --features cluster --bin graph-simulator --target "$target" && \
    cp "target/$target/image/graph-simulator" /

FROM gcr.io/distroless/static:nonroot@sha256:e2e927ec666bae08560abb3c55d0659eceabb657f56b6782ab500a9fc7f555e3 AS graph-simulator
COPY --from=build-simulator /graph-simulator /
COPY --from=build-simulator /src/LICENSE /THIRD-PARTY-LICENSES.txt /usr/share/doc/graph-simulator/
ARG REVISION=unknown
LABEL org.opencontainers.image.title="graph-simulator"
LABEL org.opencontainers.image.description="A simulated Graph API, to try the WhatsApp operator without an account at Meta"
LABEL org.opencontainers.image.url="https://github.com/whatsapp-operator/whatsapp-operator"
LABEL org.opencontainers.image.source="https://github.com/whatsapp-operator/whatsapp-operator"
LABEL org.opencontainers.image.documentation="https://github.com/whatsapp-operator/whatsapp-operator/blob/main/examples/try/README.md"
LABEL org.opencontainers.image.licenses="Apache-2.0"
LABEL org.opencontainers.image.version="0.1.0"
LABEL org.opencontainers.image.revision="${REVISION}"
USER 65532:65532
EXPOSE 8090/tcp
ENTRYPOINT ["/graph-simulator"]
CMD ["--bind=0.0.0.0:8090"]

FROM source AS build
# With a target, build scripts and macros are not linked statically. The C library in the program is under the LGPL.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target,sharing=locked \
    target="$(uname -m)-unknown-linux-gnu" && cargo fetch --locked && \
    cargo about generate --frozen --fail --target "$target" about.hbs >/THIRD-PARTY-LICENSES.txt && \
    cat /usr/share/doc/libc6/copyright /usr/share/common-licenses/LGPL-2.1 >>/THIRD-PARTY-LICENSES.txt && \
    RUSTFLAGS=-Ctarget-feature=+crt-static cargo auditable build --frozen --profile image --package whatsapp-operator --target "$target" && \
    cp "target/$target/image/whatsapp-operator" /

# MALLOC_ARENA_MAX: else the C library keeps up to eight heaps for each core, and the memory depends on the node.
FROM gcr.io/distroless/static:nonroot@sha256:e2e927ec666bae08560abb3c55d0659eceabb657f56b6782ab500a9fc7f555e3 AS whatsapp-operator
COPY --from=build /whatsapp-operator /
COPY --from=build /src/LICENSE /THIRD-PARTY-LICENSES.txt /usr/share/doc/whatsapp-operator/
ARG REVISION=unknown
LABEL org.opencontainers.image.title="whatsapp-operator"
LABEL org.opencontainers.image.description="Kubernetes operator that registers WhatsApp Business phone numbers with Meta's Cloud API, once"
LABEL org.opencontainers.image.url="https://github.com/whatsapp-operator/whatsapp-operator"
LABEL org.opencontainers.image.source="https://github.com/whatsapp-operator/whatsapp-operator"
LABEL org.opencontainers.image.documentation="https://github.com/whatsapp-operator/whatsapp-operator/blob/main/README.md"
LABEL org.opencontainers.image.licenses="Apache-2.0"
LABEL org.opencontainers.image.version="0.1.0"
LABEL org.opencontainers.image.revision="${REVISION}"
ENV SSL_CERT_FILE="/etc/ssl/certs/ca-certificates.crt"
ENV MALLOC_ARENA_MAX="2"
USER 65532:65532
EXPOSE 8080/tcp
ENTRYPOINT ["/whatsapp-operator"]
