# Twelve as a container: a small image with one binary, a user without rights, and one directory to keep.
#
#   docker build -t twelve .
#   docker run --rm -v twelve-data:/data twelve doctor
#
# `docs/operations.md` says how to make a token first: a service that is reached from outside lets nobody
# in without one, and a connection from this machine (a published port, a proxy) is no reason to. The token for
# programs beside it is made at the first start: `docker exec <container> twelve token local`.

# The same Debian for building and running, so that the C library fits.
ARG DEBIAN=trixie

FROM rust:1.95-slim-${DEBIAN} AS build
WORKDIR /src
COPY . .
# Crates and object files are kept between builds by BuildKit, so that a change builds what it touches.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin twelve \
    && install -D -m 755 target/release/twelve /out/twelve

FROM debian:${DEBIAN}-slim
# Certificates, the newest there are: models and services are asked over TLS. The user has a fixed id, so
# that a volume or a security context can name it; /data is made before VOLUME, so that a new volume belongs
# to it.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 twelve \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin twelve \
    && install -d -o 10001 -g 10001 -m 700 /data \
    && install -d -m 755 /app
COPY --from=build /out/twelve /usr/local/bin/twelve

# `twelve.toml` is looked for here; mount one at /app/twelve.toml if environment variables are not enough.
WORKDIR /app
ENV API_HOST=0.0.0.0 \
    API_PORT=8000 \
    STRUCTURED_LOGGING=true \
    TWELVE__APP__DATA_DIR=/data
VOLUME /data
EXPOSE 8000
# By number, so that Kubernetes can see that it is not root.
USER 10001:10001
# Drains: what is under way gets `runtime.drain_timeout`.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s --retries=3 CMD ["twelve", "healthcheck"]
ENTRYPOINT ["twelve"]
CMD ["serve"]
