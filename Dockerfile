# One image for every part: `docker run tracehub backend`, `tracehub worker`, `tracehub producer-sim …`.
FROM python:3.13-slim AS build
WORKDIR /build
RUN python -m venv /opt/tracehub
ENV PATH=/opt/tracehub/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
# What we need changes seldom, and is checked against the hashes of the lock; our own code changes often.
COPY requirements.lock ./
RUN pip install --require-hashes -r requirements.lock
COPY . .
RUN pip install --no-deps --no-build-isolation ./sdks/python .

FROM python:3.13-slim
RUN useradd --system --create-home --uid 10001 tracehub
COPY --from=build /opt/tracehub /opt/tracehub
ENV PATH=/opt/tracehub/bin:$PATH PYTHONUNBUFFERED=1
USER tracehub
WORKDIR /home/tracehub
EXPOSE 3001 5002 8000 8080 8081
# `tracehub` becomes the part it starts, so the part itself is process 1 and hears SIGTERM.
ENTRYPOINT ["tracehub"]
CMD ["--help"]
