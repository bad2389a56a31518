#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin:/sbin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
mkdir /run/netns
export LIMPET_BIN=/bin/limpet
cd /
# Name, number of tests, binary, tests. That they ran counts, not that none failed.
step() {
    name=$1 count=$2
    shift 2
    begin=$(cut -d. -f1 /proc/uptime)
    echo ":::: begin $name"
    "$@" --include-ignored --exact --test-threads 1 >/tmp/out 2>&1
    took=$(($(cut -d. -f1 /proc/uptime) - begin))
    if grep -q "^test result: ok. $count passed; 0 failed" /tmp/out; then
        echo ":::: held $name ($took s)"
    else
        cat /tmp/out
        echo ":::: failed $name ($took s)"
    fi
}
echo ":::: booted $(uname -r)"
