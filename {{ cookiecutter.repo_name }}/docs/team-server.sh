{{ page("team-server.sh") }}
