package linux

import (
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Linux ioctl number has the size of its argument in bits 16 to 29: a wrong number or a wrong
// structure shows here, before a board answers ENOTTY.
func TestTheNumbersOfTheGPIODeviceFitItsStructures(t *testing.T) {
	for name, c := range map[string]struct {
		request uint
		size    uintptr
	}{
		"GPIO_GET_CHIPINFO_IOCTL":       {gpioGetChipInfo, unsafe.Sizeof(unix.GPIOChipInfo{})},
		"GPIO_V2_GET_LINEINFO_IOCTL":    {unix.GPIO_V2_GET_LINEINFO_IOCTL, unsafe.Sizeof(unix.GPIOV2LineInfo{})},
		"GPIO_V2_GET_LINE_IOCTL":        {unix.GPIO_V2_GET_LINE_IOCTL, unsafe.Sizeof(unix.GPIOV2LineRequest{})},
		"GPIO_V2_LINE_SET_CONFIG_IOCTL": {gpioLineSetConfig, unsafe.Sizeof(unix.GPIOV2LineConfig{})},
		"GPIO_V2_LINE_GET_VALUES_IOCTL": {unix.GPIO_V2_LINE_GET_VALUES_IOCTL, unsafe.Sizeof(unix.GPIOV2LineValues{})},
		"GPIO_V2_LINE_SET_VALUES_IOCTL": {unix.GPIO_V2_LINE_SET_VALUES_IOCTL, unsafe.Sizeof(unix.GPIOV2LineValues{})},
	} {
		if got := uintptr(c.request >> 16 & 0x3fff); got != c.size {
			t.Errorf("%s is for %d bytes, the structure has %d", name, got, c.size)
		}
	}
}
