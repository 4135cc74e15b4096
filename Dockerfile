# What pipelines/rayjob.yaml runs: mfsynth and Ray of one version, on every node.
#
#   docker build -t registry.example.com/mfsynth:0.2.0.dev0 .
#
# torch of the pins brings CUDA; the node brings the driver. Models and credentials are mounted, never
# built in.
FROM python:3.11-slim-trixie AS wheel
WORKDIR /source
COPY . .
RUN pip wheel --no-deps --wheel-dir /wheels .

FROM python:3.11-slim-trixie
# torch.compile asks for a C++ compiler, KubeRay's probes for wget.
RUN apt-get update && apt-get install -y --no-install-recommends g++ wget && rm -rf /var/lib/apt/lists/*
COPY constraints.txt /
COPY --from=wheel /wheels /wheels
RUN pip install --no-cache-dir -c /constraints.txt "$(echo /wheels/*.whl)[azure,gcs,gpu]"
# Nobody's in particular: a cluster may give any user id.
ENV HOME=/home/mfsynth
RUN mkdir -m 1777 /home/mfsynth
WORKDIR /home/mfsynth
USER 1000
CMD ["mfsynth", "--help"]
