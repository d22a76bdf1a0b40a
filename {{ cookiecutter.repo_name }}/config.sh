# Points MLflow at this project, whatever the current directory:  source config.sh
#
# Exports what you have not set yourself: tracking address and experiment of mlflow.yml,
# conda, limits to the waiting for a server. `python check.py --exports` shows them.
# shellcheck shell=bash

case ${ZSH_EVAL_CONTEXT:-$0} in
toplevel | config.sh | */config.sh)
    echo "config.sh sets variables of your shell:  source config.sh" >&2
    exit 1
    ;;
esac

# A subshell leaves nothing behind. zsh has the sourced file in $0, sh only knows where
# we are.
# shellcheck disable=SC2128,SC3028
eval "$(
    here=${BASH_SOURCE:-$0}
    case $here in
    (config.sh | */config.sh) here=${here%config.sh} ;;
    (*) here=./ ;;
    esac
    if ! [ -f "${here}config.sh" ] || ! [ -f "${here}check.py" ]; then
        echo "config.sh: sh cannot tell where a sourced file is: cd to it first" >&2
        echo return 1
        exit
    fi
    for python in python3 python; do
        if env "$python" -IV >/dev/null 2>&1; then
            env "$python" -E -X utf8 "${here}check.py" --exports || echo return 1
            exit
        fi
    done
    echo "config.sh: neither python3 nor python is on PATH" >&2
    echo return 1
)"
