package image

import (
	"fmt"
	"slices"
	"strings"
)

// RaspberryPi is the profile that has no UEFI.
const RaspberryPi = "raspberry-pi"

// Profile is a kind of machine that an image is for.
type Profile struct {
	Name    string
	About   string
	Arch    string // GOARCH, and Debian's name
	Cmdline string // of the kernel
	Loader  string // where UEFI looks for a loader; empty: the board starts a slot's partition by itself, as Raspberry Pi does
	modules []string
}

// What every image has.
var common = []string{
	"ext4", "vfat", "nls_cp437", "nls_ascii", "nls_iso8859-1", "nls_utf8", "efivarfs", "softdog", "evdev", "button", "gpio_keys",
	"virtio_blk", "virtio_net", "virtio_rng", "virtio_pci", "virtio_scsi", "virtio_console", "sd_mod",
	"8021q", "bonding", "bridge", "veth", "tun", "vxlan", "wireguard", "dm-verity", "dm-mod", "loop", "i6300esb",
	"net/sched/", "crc32c_generic",
}

// Network cards that machines of either kind have.
var cards = []string{
	"e1000", "e1000e", "igb", "igbvf", "igc", "ixgbe", "ixgbevf", "i40e", "iavf", "ice", "r8169", "tg3", "bnxt_en", "atlantic", "mlx4_en", "mlx5_core", "ena", "gve", "vmxnet3",
	"r8152", "ax88179_178a", "asix", "cdc_ether", "cdc_ncm", "smsc95xx", "lan78xx", "drivers/net/phy/", "drivers/net/mdio/",
}

// Disks that machines of either kind have.
var disks = []string{
	"nvme", "ahci", "usb-storage", "uas", "xhci-pci", "xhci-plat-hcd", "ehci-pci", "mmc_block", "sdhci-pci", "sdhci-acpi",
}

// Sensors, clocks and lights.
var sensors = []string{
	"drivers/watchdog/", "drivers/rtc/", "drivers/hwmon/", "drivers/leds/", "drivers/gpio/",
}

// Profiles gives all profiles, in the order of their names.
func Profiles() []Profile {
	arm := slices.Concat(common, cards, disks, sensors, []string{
		// Systems on a chip: what lies between the cores and their disk, network and pins.
		"drivers/clk/", "drivers/pinctrl/", "drivers/regulator/", "drivers/phy/", "drivers/reset/", "drivers/soc/", "drivers/mfd/", "drivers/mmc/", "drivers/dma/", "drivers/i2c/busses/",
		"drivers/pci/controller/", "drivers/thermal/", "drivers/cpufreq/", "drivers/nvmem/", "drivers/mailbox/", "drivers/firmware/", "drivers/bus/", "drivers/spi/", "drivers/pwm/", "drivers/usb/dwc3/",
		"ahci_platform", "ehci-platform", "ohci-platform", "drivers/usb/dwc2/", "drivers/usb/chipidea/", "drivers/usb/typec/",
		"drivers/net/ethernet/stmicro/", "drivers/net/ethernet/marvell/", "drivers/net/ethernet/freescale/", "drivers/net/ethernet/broadcom/genet/", "drivers/net/ethernet/cadence/",
		"drivers/net/ethernet/hisilicon/", "drivers/net/ethernet/ti/", "drivers/net/ethernet/amd/xgbe/", "drivers/net/ethernet/socionext/", "drivers/net/pcs/", "drivers/net/ethernet/apm/",
	})
	amd := slices.Concat(common, cards, disks, sensors, []string{"drivers/thermal/intel/", "coretemp", "intel_rapl_msr", "drivers/net/ethernet/amd/xgbe/", "drivers/i2c/busses/", "drivers/platform/x86/"})
	return []Profile{
		{Name: "generic-amd64", About: "any amd64 machine with UEFI", Arch: "amd64", Loader: "EFI/BOOT/BOOTX64.EFI", Cmdline: "console=tty0 console=ttyS0,115200", modules: amd},
		{Name: "generic-arm64", About: "any arm64 machine with UEFI", Arch: "arm64", Loader: "EFI/BOOT/BOOTAA64.EFI", modules: arm},
		{Name: "qemu-virt", About: "QEMU's machine virt with UEFI, arm64", Arch: "arm64", Loader: "EFI/BOOT/BOOTAA64.EFI", Cmdline: "console=ttyAMA0", modules: slices.Concat(common, []string{"gpio-pl061", "leds-gpio", "nvme", "ahci"})},
		// Its kernel has nearly all built in: cards, disks, ext4, FAT, its watchdog.
		{Name: RaspberryPi, About: "Raspberry Pi 4, 400, 5, 500, CM4 and CM5, arm64", Arch: "arm64", Cmdline: "console=tty1 console=serial0,115200", modules: []string{"crypto/", "drivers/net/mdio/", "drivers/rtc/"}},
	}
}

// cmdlineCommon is on every kernel's command line. With gpt the kernel takes the table at the disk's end when a power cut has torn the first. A kernel that meets a fault of its own starts the machine again: the loader counts that.
const cmdlineCommon = "gpt loglevel=4 panic=5 oops=panic random.trust_cpu=on consoleblank=0"

// Find is the profile with a name.
func Find(name string) (Profile, error) {
	all := Profiles()
	var names []string
	for _, p := range all {
		if p.Name == name {
			return p, nil
		}
		names = append(names, p.Name)
	}
	return Profile{}, fmt.Errorf("image: there is no profile %q; there are %s", name, strings.Join(names, ", "))
}
