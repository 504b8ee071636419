# Become the first process of a cheap machine. Runs in its new namespaces, still with the host's files.
# Arguments: the root tree, and a directory with boot_id, hostname, inittab and cidata/.
set -e
root=$1 work=$2
mount --bind "$root" "$root"
cd "$root"
mount -t proc proc proc
cat "$work/hostname" > proc/sys/kernel/hostname
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount --bind "$work/boot_id" proc/sys/kernel/random/boot_id
[ ! -e proc/sysrq-trigger ] || mount --bind /dev/null proc/sysrq-trigger
mount -t tmpfs -o mode=755,size=256k dev dev
for name in null zero full random urandom tty; do
    : > "dev/$name"
    mount --bind "/dev/$name" "dev/$name"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,mode=620,ptmxmode=666 devpts dev/pts
mount -t tmpfs -o mode=1777 shm dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr
mount -t tmpfs -o mode=755 run run
mkdir run/cidata
mount --bind "$work/cidata" run/cidata
mount --bind "$work/inittab" etc/inittab
# Not a sandbox, but a guest that means no harm can do none: no mounts, modules, clocks or network set-up of the host.
capabilities=-sys_admin,-sys_module,-sys_rawio,-sys_time,-net_admin,-mknod,-sys_ptrace
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/ TERM=linux \
    setpriv --bounding-set "$capabilities" --inh-caps "$capabilities" -- chroot "$root" /sbin/init
