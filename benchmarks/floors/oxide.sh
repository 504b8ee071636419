#!/usr/bin/env bash
# The floor of an Oxide build: the calls and commands of `build-oxide-image`, by curl and ssh and with nothing around.
#
# Environment: HOST TOKEN_FILE PROJECT IMAGE SSH_PORT NAME (unique) WORK (an empty directory)
#   PROVISIONERS (a directory with shell-1, file-2 and shell-3)
# Each step's name is printed when it begins, with the time; at the end `end`.
set -euo pipefail

step() { echo "$EPOCHREALTIME $*"; }

printf 'Authorization: Bearer %s\napi-version: 2026060800.0.0\nContent-Type: application/json\n' "$(<"$TOKEN_FILE")" \
    >"$WORK/headers"
call() { # METHOD PATH [BODY]: what was answered is in $reply
    reply=$(curl --silent --show-error --fail --noproxy '*' --request "$1" --header "@$WORK/headers" \
        ${3:+--data "$3"} "$HOST$2")
}
id() { # of what was answered
    [[ $reply =~ \"id\":\"([^\"]+)\" ]] && echo "${BASH_REMATCH[1]}"
}
until_state() { # STATE: looks at the instance without a pause that would count
    until { call GET "/v1/instances/$instance" || exit 1; [[ $reply == *"\"run_state\":\"$1\""* ]]; }; do sleep 0.02; done
}
list() { # PATH [QUERY]: all pages, as the last one is empty
    local page=
    while { call GET "$1?limit=1000${2:+&$2}$page" || exit 1; [[ $reply =~ \"next_page\":\"([^\"]+)\" ]]; }; do
        page="&page_token=${BASH_REMATCH[1]}"
    done
}
look() { # all that a build may have left
    local kind
    for kind in instances disks snapshots images; do list "/v1/$kind" "project=$PROJECT"; done
    list /v1/images
    list /v1/me/ssh-keys
}
guest() { ssh -F none -S "$WORK/ssh" guest "$@"; }

absent() { # PATH: what is not there is answered by 404
    if call GET "$1" 2>/dev/null; then exit 1; fi
}

step check with the region
call GET "/v1/projects/$PROJECT"
absent "/v1/images/$IMAGE?project=$PROJECT"
call GET "/v1/images/$IMAGE"
image=$(id)
absent "/v1/images/$NAME?project=$PROJECT"
call GET "/v1/vpcs/default?project=$PROJECT"
call GET "/v1/vpc-subnets/default?project=$PROJECT&vpc=default"
list /v1/ip-pools
call GET /v1/utilization

step prepare log-in
ssh-keygen -q -t ed25519 -N '' -C '' -f "$WORK/key"
step create temporary key
call POST /v1/me/ssh-keys "{\"name\":\"$NAME-key\",\"description\":\"\",\"public_key\":\"$(<"$WORK/key.pub")\"}"
key=$(id)

step launch instance
call POST "/v1/instances?project=$PROJECT" "{
  \"name\":\"$NAME\",\"description\":\"\",\"hostname\":\"$NAME\",\"memory\":1073741824,\"ncpus\":1,\"start\":true,
  \"boot_disk\":{\"type\":\"create\",\"name\":\"$NAME\",\"description\":\"\",\"size\":1073741824,
    \"disk_backend\":{\"type\":\"distributed\",\"disk_source\":{\"type\":\"image\",\"image_id\":\"$image\"}}},
  \"network_interfaces\":{\"type\":\"create\",\"params\":[{\"name\":\"$NAME\",\"description\":\"\",\"vpc_name\":\"default\",
    \"subnet_name\":\"default\",\"ip_config\":{\"type\":\"v4\",\"value\":{\"ip\":{\"type\":\"auto\"},\"transit_ips\":[]}}}]},
  \"external_ips\":[{\"type\":\"ephemeral\",\"pool_selector\":{\"type\":\"auto\",\"ip_version\":\"v4\"}}],
  \"ssh_public_keys\":[\"$key\"],\"user_data\":\"\",\"auto_restart_policy\":\"never\"}"
instance=$(id)
[[ $reply =~ \"boot_disk_id\":\"([^\"]+)\" ]] && disk=${BASH_REMATCH[1]}
step wait until running
until_state running
step find address
call GET "/v1/instances/$instance/external-ips"
[[ $reply =~ \"kind\":\"ephemeral\",\"ip\":\"([^\"]+)\" ]] && address=${BASH_REMATCH[1]}

step connect
# A connection that is made before the guest listens may hang for good, and a slow guest may need seconds for its banner:
# so there are several, the longer patient the longer it takes. An SSH server may turn away who has more than a few.
SECONDS=0
until [[ -e $WORK/banner ]]; do
    mapfile -t probes < <(jobs -pr)
    ((${#probes[@]} >= 4)) ||
        (exec 3<>"/dev/tcp/$address/$SSH_PORT" && read -r -t $((1 + SECONDS / 5)) <&3 && : >"$WORK/banner") &>/dev/null &
    sleep 0.03
done
tries=0
until ssh -F none -S "$WORK/ssh" -f -N -M -p "$SSH_PORT" -i "$WORK/key" -o IdentitiesOnly=yes -o LogLevel=ERROR \
    -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null "root@$address"; do
    ((++tries < 20)) || exit 1
    sleep 0.1
done

step provision: shell 1
guest 'cat >/tmp/script_1.sh; chmod 755 /tmp/script_1.sh' <"$PROVISIONERS/shell-1"
guest 'chmod +x /tmp/script_1.sh; /tmp/script_1.sh'
guest 'rm -f /tmp/script_1.sh'
step provision: file 2
guest 'cat >/root/file; chmod 644 /root/file' <"$PROVISIONERS/file-2"
step provision: shell 3
guest 'cat >/tmp/script_3.sh; chmod 755 /tmp/script_3.sh' <"$PROVISIONERS/shell-3"
guest 'chmod +x /tmp/script_3.sh; /tmp/script_3.sh'
guest 'rm -f /tmp/script_3.sh'
step forget temporary key
guest 'rm -f /root/.ssh/authorized_keys /home/baker/.ssh/authorized_keys'

step shut down
guest sync
guest '(sleep 0.2; poweroff) >/dev/null 2>&1 &'
ssh -F none -S "$WORK/ssh" -O exit guest 2>/dev/null || true
until_state stopped

step snapshot boot disk
call POST "/v1/snapshots?project=$PROJECT" "{\"name\":\"$NAME\",\"description\":\"\",\"disk\":\"$disk\"}"
snapshot=$(id)
step register image
call POST "/v1/images?project=$PROJECT" "{\"name\":\"$NAME\",\"description\":\"\",\"os\":\"tiny\",\"version\":\"1\",
  \"source\":{\"type\":\"snapshot\",\"id\":\"$snapshot\"}}"

step tear down
call GET "/v1/instances/$instance"
call DELETE "/v1/instances/$instance"
call DELETE "/v1/disks/$disk" & disk_gone=$!
call DELETE "/v1/me/ssh-keys/$key" & key_gone=$!
call DELETE "/v1/snapshots/$snapshot"
wait "$disk_gone"
wait "$key_gone"
look
step end
