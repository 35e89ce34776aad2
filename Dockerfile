# Tunesmith on the CPU, for linux/amd64 and linux/arm64:
#
#     docker build --tag tunesmith .
#     docker run --rm --volume "$PWD:/work" tunesmith train -Y cfg.yaml --output runs/first
#
# The program runs as any user id; what it keeps goes to /cache, which wants a volume.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --package tunesmith

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && mkdir -p /cache /work \
    && chmod 0777 /cache /work
COPY --from=build /src/target/release/tunesmith /usr/local/bin/tunesmith
ENV TUNESMITH_CACHE=/cache HOME=/work
USER 10001:10001
WORKDIR /work
HEALTHCHECK --interval=5m --timeout=60s CMD ["tunesmith", "doctor", "--device", "cpu"]
ENTRYPOINT ["tunesmith"]
CMD ["--help"]
