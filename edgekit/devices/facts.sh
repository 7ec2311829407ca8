# Run by sh on a device: what it is, in sections that edgekit/devices/facts.py reads. Linux boards and Android alike.
#   sh -c "$(cat facts.sh)" facts state|all PYTHON
# What cannot be read is left out. A line of its own ends each section, whatever the file ended with.
section() { echo; echo "@@ $1"; }
show() { [ -r "$2" ] && section "$1" && cat "$2" 2>/dev/null; }
texts() { [ -r "$2" ] && section "$1" && tr '\0' '\n' < "$2"; }
value() { [ -r "$1" ] && read -r REPLY 2>/dev/null < "$1"; }
has() { command -v "$1" > /dev/null 2>&1; }
say() { name=$1; shift; has "$1" && section "$name" && "$@" 2>/dev/null < /dev/null; }

section thermal
for zone in /sys/class/thermal/thermal_zone*; do
  type=${zone##*/}
  value "$zone/temp" && temp=$REPLY && { value "$zone/type" && type=$REPLY; echo "$type $temp"; }
done
section cooling
for device in /sys/class/thermal/cooling_device*; do
  type=${device##*/}
  value "$device/cur_state" && state=$REPLY && { value "$device/type" && type=$REPLY; echo "$type $state"; }
done
section cpufreq
for cpu in /sys/devices/system/cpu/cpu[0-9]*; do
  for name in scaling_governor scaling_cur_freq scaling_max_freq cpuinfo_max_freq; do
    value "$cpu/cpufreq/$name" && echo "${cpu##*/} $name $REPLY"
  done
done
say nvpmodel nvpmodel -q
say vcgencmd vcgencmd get_throttled
say thermalservice dumpsys thermalservice
say battery dumpsys battery
[ "$1" = all ] || exit 0

say uname uname -srm
show os_release /etc/os-release
show nv_tegra_release /etc/nv_tegra_release
show rpi_issue /etc/rpi-issue
texts model /proc/device-tree/model
texts compatible /proc/device-tree/compatible
show dmi /sys/class/dmi/id/product_name
show cpuinfo /proc/cpuinfo
show meminfo /proc/meminfo
say df df -Pk .
say getprop getprop
say tegrastats timeout 2 tegrastats --interval 200
say packages dpkg-query -W -f '${Package} ${Version}\n' nvidia-jetpack nvidia-l4t-core 'libnvinfer[0-9]*' tensorrt
say nvidia_smi nvidia-smi -L
section nodes
for node in nvidia0 nvhost-gpu nvhost-nvdla0 nvgpu apex_0 hailo0 kgsl-3d0 mali0 rknpu accel/accel0; do
  [ -e "/dev/$node" ] && echo "$node"
done
for sign in /etc/edgekit-virtual-board /proc/device-tree/fw-cfg*; do  # QEMU's boards have a fw-cfg device
  [ -e "$sign" ] && section virtual
done
section python
"$2" -c '
import json, platform
try:
    from importlib import metadata
except ImportError:
    metadata = None
found = {}
for name in "numpy ai-edge-litert tflite-runtime onnxruntime onnxruntime-gpu tensorrt cuda-python pycuda".split():
    try:
        found[name] = metadata.version(name)
    except Exception:
        pass
print(json.dumps({"version": platform.python_version(), "implementation": platform.python_implementation(),
                  "libc": list(platform.libc_ver()), "packages": found}))
' 2>/dev/null
exit 0
