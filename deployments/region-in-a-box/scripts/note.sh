#!/bin/sh
# Each image of the family adds a line: who its parents are.
echo "$PACKER_BUILD_NAME" >> /etc/family
cat /etc/family
