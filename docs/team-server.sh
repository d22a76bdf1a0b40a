#!/usr/bin/env bash
# A team's MLflow server on one machine: runs in PostgreSQL, artifacts in a folder, users
# with passwords. Everything is kept below one folder; Ctrl-C or SIGTERM ends it all.
#
#   apt-get install postgresql; pip install "mlflow[auth]" psycopg2-binary
#   ADMIN_PASSWORD=... ./team-server.sh /srv/mlflow 5000
set -euo pipefail
home=$(realpath -m "$1") port=${2:-5000}
: "${ADMIN_PASSWORD:?must be set, to 12 characters or more}"
mkdir -p "$home"
chmod 711 "$home"

# The database has no password and no port: only who may enter its folder can reach it.
bin=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -1)
as=()
if [ "$(id -u)" = 0 ]; then as=(setpriv --reuid=postgres --regid=postgres --clear-groups); fi
if [ ! -e "$home/db/PG_VERSION" ]; then
  install -d -m 700 "$home/db"
  [ "$(id -u)" != 0 ] || chown postgres:postgres "$home/db"
  "${as[@]}" "$bin/initdb" --username=mlflow --auth=trust --pgdata="$home/db" >/dev/null
fi
"${as[@]}" "$bin/pg_ctl" --pgdata="$home/db" --wait --log="$home/db/log" \
  --options="-k '$home/db' -c listen_addresses=''" start >/dev/null
trap '"${as[@]}" "$bin/pg_ctl" --pgdata="$home/db" --mode=fast stop >/dev/null' EXIT
for name in mlflow users; do
  "$bin/psql" -Atqh "$home/db" -U mlflow -c "CREATE DATABASE $name" postgres 2>/dev/null || true
done
address() { echo "postgresql+psycopg2://mlflow@/$1?host=$home/db"; }

umask 077
[ -e "$home/secret" ] || head -c 32 /dev/urandom | base64 >"$home/secret"
cat >"$home/auth.ini" <<END
[mlflow]
default_permission = READ
auth_cache_ttl_seconds = 60
database_uri = $(address users)
admin_username = admin
admin_password = $ADMIN_PASSWORD
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
END
MLFLOW_FLASK_SERVER_SECRET_KEY=$(cat "$home/secret")
export MLFLOW_FLASK_SERVER_SECRET_KEY MLFLOW_AUTH_CONFIG_PATH="$home/auth.ini"

mlflow server --app-name=basic-auth --host="${HOST:-127.0.0.1}" --port="$port" \
  --backend-store-uri="$(address mlflow)" --artifacts-destination="$home/artifacts" &
trap 'kill $!; wait $!' INT TERM
wait $!
