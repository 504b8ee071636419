"""What Ansible loads (ANSIBLE_CONNECTION_PLUGINS): the connection of the build that started it, and nothing of ours."""
