# The hub, from its package: docker build -f packaging/images/hub.Dockerfile dist
# Its state is a volume; begin it once: docker run --rm -v ringfence-hub:/var/lib/ringfence IMAGE hub init
FROM debian:12-slim
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
COPY ringfence-hub_*.deb /tmp/
RUN apt-get update \
 && apt-get install -y --no-install-recommends /tmp/ringfence-hub_*.deb \
 && rm -rf /tmp/*.deb /var/lib/apt/lists/* \
 && chown -R ringfence-hub:ringfence-hub /var/lib/ringfence
USER ringfence-hub
VOLUME /var/lib/ringfence
EXPOSE 8700 4222 8701
ENV RINGFENCE_HTTP_HOST=0.0.0.0 RINGFENCE_NATS_HOST=0.0.0.0
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["ringfence", "hub", "doctor", "--json"]
ENTRYPOINT ["ringfence"]
CMD ["serve"]
