# Points MLflow at this project, whatever the current directory:  source config.sh
#
# Exports what you have not set yourself:
#   MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME    what conf/*/mlflow.yml says
#   MLFLOW_BACKEND_STORE_URI                       the same store, for `mlflow ui`
#   MLFLOW_DEFAULT_ARTIFACT_ROOT                   its artifacts: mlruns, in this folder
#   MLFLOW_CONDA_HOME                              the conda, for `mlflow run`
#   MLFLOW_HTTP_REQUEST_MAX_RETRIES, _TIMEOUT      a dead server fails within seconds
# shellcheck shell=bash

case ${ZSH_EVAL_CONTEXT:-$0} in
toplevel | config.sh | */config.sh)
    echo "config.sh sets variables of your shell:  source config.sh" >&2
    exit 1
    ;;
esac

# The file that is being sourced: zsh has it in $0, and sh only knows where we are.
# shellcheck disable=SC2128,SC3028
_mlflow_here=${BASH_SOURCE:-$0}
case $_mlflow_here in
config.sh | */config.sh) ;;
*)
    _mlflow_here=./config.sh
    if ! [ -f ./config.sh ] || ! [ -d ./conf/base ]; then
        echo "config.sh: sh cannot tell where a sourced file is: cd to it first" >&2
        unset _mlflow_here
        return 1
    fi
    ;;
esac

# A top-level key of mlflow.yml as Kedro finds it: the environment's file, then base's.
_mlflow_setting() {
    local file="$project/conf/${KEDRO_ENV:-local}/mlflow.yml"
    grep -qs "^$1[[:space:]]*:" "$file" || file=$project/conf/base/mlflow.yml
    [ -f "$file" ] || return 0
    sed -n "s/^$1[[:space:]]*:[[:space:]]*//p" "$file" |
        sed -e 's/^"\([^"]*\)".*/\1/' -e t -e "s/^'\([^']*\)'.*/\1/" -e t \
            -e 's/^#.*//' -e 's/[[:space:]]#.*//' -e 's/[[:space:]]*$//' \
            -e 's/^null$//' -e 's/^~$//'
}

_mlflow_is_conda() {
    [ -x "$1/bin/conda" ] && [ -f "$1/etc/profile.d/conda.sh" ]
}

# `conda info` takes a second: asked only where the path of conda does not tell.
_mlflow_find_conda() {
    local home
    home=${CONDA_EXE:-$(command -v conda)} || return 0
    home=${home%/*}
    home=${home%/*}
    _mlflow_is_conda "$home" || home=$(conda info --base 2>/dev/null) || return 0
    ! _mlflow_is_conda "$home" || echo "$home"
}

_mlflow_project() {
    if [ -n "${ZSH_VERSION:-}" ]; then emulate -L sh; fi
    local project uri name conda note=''
    project=$(CDPATH='' \cd -- "$1" >/dev/null && pwd -P)

    uri=$(_mlflow_setting tracking_uri)
    case $uri in
    *\$\{*) uri='' note="; tracking_uri is an expression: export MLFLOW_TRACKING_URI" ;;
    '') uri=sqlite:///$project/mlflow.db ;;
    sqlite:///[!/]*) uri=sqlite:///$project/${uri#sqlite:///} ;;
    esac
    if [ "${MLFLOW_TRACKING_URI:-$uri}" != "$uri" ]; then
        uri=$MLFLOW_TRACKING_URI note="; MLFLOW_TRACKING_URI was set before"
    fi
    [ -z "$uri" ] || export MLFLOW_TRACKING_URI="$uri"
    case $uri in
    sqlite* | postgresql* | mysql* | mssql*)
        export MLFLOW_BACKEND_STORE_URI="${MLFLOW_BACKEND_STORE_URI:-$uri}"
        ;;
    esac
    case $uri in
    sqlite:///"$project"/*)
        # Otherwise experiments made in `mlflow ui` store at mlflow-artifacts:/, where
        # only clients of a server can write.
        : "${MLFLOW_DEFAULT_ARTIFACT_ROOT:=$project/mlruns}"
        export MLFLOW_DEFAULT_ARTIFACT_ROOT
        case $project in
        *\?* | *%[0-9A-Fa-f][0-9A-Fa-f]*)
            note="; a path with ? or %20 leads SQLite elsewhere: rename the folder"
            ;;
        esac
        ;;
    esac

    # `mlflow run` refuses a name next to an id.
    name=${MLFLOW_EXPERIMENT_NAME:-${MLFLOW_EXPERIMENT_ID:-${MLFLOW_RUN_ID:-}}}
    if [ -z "$name" ]; then
        name=$(_mlflow_setting experiment_name)
        case $name in
        '' | *\$\{*) name='' ;;
        *) export MLFLOW_EXPERIMENT_NAME="$name" ;;
        esac
    fi

    # KEDRO_MLFLOW_... marks a value as ours: the first contact of a run may be shorter.
    if [ -z "${MLFLOW_HTTP_REQUEST_MAX_RETRIES:-}" ]; then
        export MLFLOW_HTTP_REQUEST_MAX_RETRIES=2 KEDRO_MLFLOW_HTTP_REQUEST_MAX_RETRIES=2
    fi
    if [ -z "${MLFLOW_HTTP_REQUEST_TIMEOUT:-}" ]; then
        export MLFLOW_HTTP_REQUEST_TIMEOUT=20 KEDRO_MLFLOW_HTTP_REQUEST_TIMEOUT=20
    fi

    conda=${MLFLOW_CONDA_HOME:-$(_mlflow_find_conda)}
    if [ -n "$conda" ] && _mlflow_is_conda "$conda"; then
        export MLFLOW_CONDA_HOME="$conda"
        conda="conda in $conda"
    else
        [ -z "$conda" ] || note="$note; MLFLOW_CONDA_HOME=$conda is no conda: unset it"
        if command -v mamba >/dev/null || command -v micromamba >/dev/null; then
            note="$note; mamba alone does not do for MLflow"
        fi
        if command -v uv >/dev/null; then
            conda=uv
        elif command -v pyenv >/dev/null; then
            conda=virtualenv
        else
            conda=local
        fi
        conda="no conda, so: mlflow run . --env-manager $conda"
    fi
    printf 'config.sh: %s in %s; %s%s\n' "${name:-runs}" "${uri:-?}" "$conda" "$note" |
        sed -e 's,://[^:/@]*:[^@]*@,://***@,' -e 's,://[^/@]*@,://***@,' \
            -e 's/password=[^&;]*/password=***/' >&2
}

_mlflow_project "$(dirname -- "$_mlflow_here")" || :
unset _mlflow_here
unset -f _mlflow_project _mlflow_setting _mlflow_is_conda _mlflow_find_conda
