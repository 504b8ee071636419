#!/bin/sh
# What a first image says about itself.
cat /etc/motd
echo "Up since $(uptime -s), kernel $(uname -r)"
