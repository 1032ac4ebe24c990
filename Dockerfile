# Both commands in a container:
#   docker build -t arq-book .
#   docker run --rm -v "$PWD/_build:/arq-book/_build" arq-book make book
#   docker run --rm arq-book make test
FROM python:3.11-slim-bookworm AS system
# g++: torch.compile. chromium: the tests of the widgets; without it they are skipped, and say so.
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends make g++ git chromium npm \
 && rm -rf /var/lib/apt/lists/*
# torch without CUDA. For a GPU: docker build --build-arg PIP_EXTRA_INDEX_URL= .
ARG PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
ENV PIP_EXTRA_INDEX_URL=$PIP_EXTRA_INDEX_URL

FROM system
WORKDIR /arq-book
COPY . .
RUN make .venv/.installed && rm -rf /root/.cache
CMD ["make", "book"]
