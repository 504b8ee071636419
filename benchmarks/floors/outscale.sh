#!/usr/bin/env bash
# The floor of an OUTSCALE build: the calls and commands of `build-outscale-image`, by curl, unshare and chroot alone.
#
# Environment: OSC_ACCESS_KEY OSC_SECRET_KEY OSC_REGION OSC_ENDPOINT_API IMAGE_BAKERY_OUTSCALE_METADATA SOURCE_OMI
#   RATE and WINDOW (no more than so many requests in so many microseconds) DEVICE (/dev/xvdX) NAME (unique) WORK (an empty directory)
#   PROVISIONERS (a directory with shell-1, file-2 and shell-3)
# Each step's name is printed when it begins, with the time; at the end `end`.
set -euo pipefail

step() { echo "$EPOCHREALTIME $*"; }

printf 'user = "%s:%s"\n' "$OSC_ACCESS_KEY" "$OSC_SECRET_KEY" >"$WORK/curlrc"
turns=()
turn() { # waits until another request may be sent
    local now=${EPOCHREALTIME/./} first
    if ((${#turns[@]} == RATE)); then
        first=$((turns[0] + WINDOW - now))
        ((first <= 0)) || sleep "$((first / 1000000)).$(printf %06d $((first % 1000000)))"
        turns=("${turns[@]:1}")
    fi
    turns+=("${EPOCHREALTIME/./}")
}
call() { # ACTION BODY: what was answered is in $reply
    turn
    reply=$(curl --silent --show-error --fail-with-body --noproxy '*' --config "$WORK/curlrc" \
        --aws-sigv4 "osc:osc:$OSC_REGION:api" --header 'Content-Type: application/json' --data "$2" \
        "$OSC_ENDPOINT_API/$1") || { echo "$1: $reply" >&2; exit 1; }
}
value() { # of a KEY's first occurrence in what was answered
    [[ $reply =~ \"$1\":\ *\"([^\"]+)\" ]] && echo "${BASH_REMATCH[1]}"
}
until_seen() { # ACTION BODY TEXT...: looks without a pause that would count
    local text seen
    while :; do
        call "$1" "$2"
        seen=yes
        for text in "${@:3}"; do [[ ${reply// /} == *"$text"* ]] || seen=; done
        [[ -z $seen ]] || break
        sleep 0.02
    done
}
look() { # all that a build may have left
    call ReadAccounts '{}'
    call ReadImages "{\"Filters\":{\"AccountIds\":[\"$account\"]}}"
    call ReadSnapshots "{\"Filters\":{\"ClientTokens\":[\"$NAME-volume\",\"$NAME-snapshot\"]}}"
    call ReadVolumes "{\"Filters\":{\"ClientTokens\":[\"$NAME-volume\",\"$NAME-snapshot\"]}}"
}
tag() { # IDS VALUE
    call CreateTags "{\"ResourceIds\":[$1],\"Tags\":[{\"Key\":\"floor\",\"Value\":\"$2\"}]}"
}

step check credentials
call ReadAccounts '{}'
account=$(value AccountId)
step VM info
here=$(curl --silent --fail --noproxy '*' "$IMAGE_BAKERY_OUTSCALE_METADATA/latest/meta-data/instance-id")
call ReadVms "{\"Filters\":{\"VmIds\":[\"$here\"]}}"
subregion=$(value SubregionName)
step source OMI info
call ReadImages "{\"Filters\":{\"ImageIds\":[\"$SOURCE_OMI\"]}}"
source_snapshot=$(value SnapshotId)
step check name
call ReadImages "{\"Filters\":{\"AccountIds\":[\"$account\"],\"ImageNames\":[\"$NAME\"]}}"

step create volume
call CreateVolume "{\"SubregionName\":\"$subregion\",\"SnapshotId\":\"$source_snapshot\",\"ClientToken\":\"$NAME-volume\"}"
volume=$(value VolumeId)
tag "\"$volume\"" mark
until_seen ReadVolumes "{\"Filters\":{\"VolumeIds\":[\"$volume\"]}}" '"State":"available"'
step link volume
call ReadVolumes "{\"Filters\":{\"VolumeIds\":[\"$volume\"]}}"
call ReadVms "{\"Filters\":{\"VmIds\":[\"$here\"]}}"
call LinkVolume "{\"VolumeId\":\"$volume\",\"VmId\":\"$here\",\"DeviceName\":\"$DEVICE\"}"
until_seen ReadVolumes "{\"Filters\":{\"VolumeIds\":[\"$volume\"]}}" '"State":"in-use"' '"State":"attached"'
step wait for device
while [[ ! -b $DEVICE ]]; do sleep 0.01; done

step mount device
[[ -b ${DEVICE}1 ]] || partx --update "$DEVICE"
while [[ ! -b ${DEVICE}1 ]]; do sleep 0.01; done
mkdir -p "$WORK/root"
export DEVICE WORK PROVISIONERS
# From here to the unmount in namespaces of its own. The steps inside print their names themselves.
unshare --mount --propagation private --pid --fork --kill-child --ipc --uts bash -euo pipefail -c '
step() { echo "$EPOCHREALTIME $*"; }
root=$WORK/root
mount "${DEVICE}1" "$root"
step mount extra
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o mode=755 dev "$root/dev"
for node in null zero full random urandom tty; do : >"$root/dev/$node"; mount --bind "/dev/$node" "$root/dev/$node"; done
mkdir "$root/dev/pts"
mount -t devpts -o newinstance,mode=620,ptmxmode=666 devpts "$root/dev/pts"
step copy files
[[ ! -e $root/etc/resolv.conf ]] || mv "$root/etc/resolv.conf" "$root/etc/.resolv.conf.floor"
cp /etc/resolv.conf "$root/etc/resolv.conf"
step provision: shell 1
cp "$PROVISIONERS/shell-1" "$root/tmp/script_1.sh"
chroot "$root" /bin/sh -c "chmod +x /tmp/script_1.sh; /tmp/script_1.sh"
chroot "$root" /bin/sh -c "rm -f /tmp/script_1.sh"
step provision: file 2
cp "$PROVISIONERS/file-2" "$root/root/file"
step provision: shell 3
cp "$PROVISIONERS/shell-3" "$root/tmp/script_3.sh"
chroot "$root" /bin/sh -c "chmod +x /tmp/script_3.sh; /tmp/script_3.sh"
chroot "$root" /bin/sh -c "rm -f /tmp/script_3.sh"
step early cleanup
rm "$root/etc/resolv.conf"
[[ ! -e $root/etc/.resolv.conf.floor ]] || mv "$root/etc/.resolv.conf.floor" "$root/etc/resolv.conf"
umount --recursive "$root"
'
step unlink volume
call ReadVolumes "{\"Filters\":{\"VolumeIds\":[\"$volume\"]}}"
partx --delete "$DEVICE" 2>/dev/null || true
call UnlinkVolume "{\"VolumeId\":\"$volume\"}"
until_seen ReadVolumes "{\"Filters\":{\"VolumeIds\":[\"$volume\"]}}" '"State":"available"'

step snapshot volume
call CreateSnapshot "{\"VolumeId\":\"$volume\",\"Description\":\"floor\",\"ClientToken\":\"$NAME-snapshot\"}"
snapshot=$(value SnapshotId)
tag "\"$snapshot\"" mark
until_seen ReadSnapshots "{\"Filters\":{\"SnapshotIds\":[\"$snapshot\"]}}" '"State":"completed"'
step create OMI
call CreateImage "{\"ImageName\":\"$NAME\",\"RootDeviceName\":\"/dev/sda1\",\"Architecture\":\"x86_64\",
  \"Description\":\"floor\",\"BlockDeviceMappings\":[{\"DeviceName\":\"/dev/sda1\",
  \"Bsu\":{\"SnapshotId\":\"$snapshot\",\"DeleteOnVmDeletion\":true}}]}"
omi=$(value ImageId)
until_seen ReadImages "{\"Filters\":{\"ImageIds\":[\"$omi\"]}}" '"State":"available"'
step tag OMI
tag "\"$omi\",\"$snapshot\"" artifact
step describe OMI
call UpdateImage "{\"ImageId\":\"$omi\",\"Description\":\"floor\"}"

step tear down
look
call ReadVolumes "{\"Filters\":{\"VolumeIds\":[\"$volume\"]}}"
call ReadVolumes "{\"Filters\":{\"VolumeIds\":[\"$volume\"]}}"
call DeleteVolume "{\"VolumeId\":\"$volume\"}"
look
step end
