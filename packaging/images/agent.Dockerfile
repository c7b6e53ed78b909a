# The agent, from its package: docker build -f packaging/images/agent.Dockerfile dist
# Its state and models are a volume; enrol it once: docker run --rm -v ringfence:/var/lib/ringfence IMAGE enrol --hub … --token …
FROM debian:12-slim
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
COPY ringfence-agent_*.deb /tmp/
RUN apt-get update \
 && apt-get install -y --no-install-recommends /tmp/ringfence-agent_*.deb \
 && rm -rf /tmp/*.deb /var/lib/apt/lists/* \
 && chown -R ringfence-agent:ringfence-agent /var/lib/ringfence
USER ringfence-agent
VOLUME /var/lib/ringfence
EXPOSE 8710
ENV RINGFENCE_AGENT_HTTP_HOST=0.0.0.0 RINGFENCE_AGENT_HTTP_PORT=8710
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["ringfence-agent", "status", "--json"]
ENTRYPOINT ["ringfence-agent"]
CMD ["run"]
