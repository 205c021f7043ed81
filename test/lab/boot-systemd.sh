#!/bin/bash
# Boots a systemd as PID 1 of namespaces of its own (pid, mount, net, ipc, uts, cgroup) on a root of tmpfs with this machine's /usr, the tree as /opt/weft, and
# the units of deploy/systemd enabled. Nothing of it is left when its PID 1 is killed but the cgroup, which is the caller's.
# Usage: boot-systemd.sh <empty folder for its root> <tree> <node_modules> <cgroup2 folder of its own>
set -e
echo $$ > "$4/cgroup.procs"
exec unshare --pid --mount --net --ipc --uts --cgroup --fork --kill-child --propagation private bash -ec '
mount -t tmpfs -o mode=0755 root "$1"; cd "$1"
mkdir -p usr etc/systemd/system etc/weft etc/sysusers.d proc sys dev run tmp var opt/weft ".$3" root old
mount --rbind /usr usr
for link in bin sbin lib lib64; do if [ -L /$link ]; then ln -s usr/$link $link; fi; done
mount --bind "$2" opt/weft
mount --bind "$3" ".$3"
mount -t proc proc proc; mount -t sysfs sysfs sys; mount -t cgroup2 cgroup sys/fs/cgroup
mount -t tmpfs -o mode=0755 dev dev
for device in null zero full random urandom tty; do touch dev/$device; mount --bind /dev/$device dev/$device; done
mkdir dev/shm dev/pts; mount -t tmpfs shm dev/shm; mount -t devpts -o newinstance,ptmxmode=0666 pts dev/pts
ln -s pts/ptmx dev/ptmx; ln -s /proc/self/fd dev/fd
for folder in run tmp var; do mount -t tmpfs -o mode=0755 $folder $folder; done
mkdir -p var/lib var/tmp
echo "root:x:0:0:root:/root:/bin/sh" > etc/passwd; echo "root:x:0:" > etc/group; tr -d - < /proc/sys/kernel/random/uuid > etc/machine-id
cp opt/weft/deploy/systemd/*.service etc/systemd/system/
cp opt/weft/deploy/systemd/weft.sysusers etc/sysusers.d/weft.conf; usr/bin/systemd-sysusers --root="$1" > run/sysusers 2>&1
echo "127.0.0.1 localhost $(uname -n)" > etc/hosts
echo "WEFT_ETCD=http://127.0.0.1:2379" > etc/weft/controller.env
printf "%s\n" WEFT_NODE=node-a WEFT_CONTROLLER=unix:/run/weft/controller.sock > etc/weft/agent.env
printf "%s\n" WEFT_NODE=node-a WEFT_WORKERS=1 > etc/weft/proxy.env
# What a host has besides: etcd, and something that must not run before its connections are captured.
printf "%s\n" [Service] "ExecStart=/usr/bin/etcd --data-dir /var/lib/etcd" > etc/systemd/system/etcd.service
printf "%s\n" [Service] "ExecStart=/usr/bin/sleep infinity" > etc/systemd/system/kubelet.service
# A target of little: what a machine boots besides is nothing of this.
printf "%s\n" [Unit] "Wants=etcd.service weft-controller.service weft-agent.service weft-proxy@a.service kubelet.service" > etc/systemd/system/default.target
ip link set lo up
pivot_root . old; umount -l old
exec env -i container=weft PATH=/usr/sbin:/usr/bin:/sbin:/bin /usr/lib/systemd/systemd --system --show-status=no
' boot "$@"
