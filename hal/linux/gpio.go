package linux

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"
	"unsafe"

	"github.com/holdfast-edge/holdfast/boards"
	"github.com/holdfast-edge/holdfast/hal"
	"golang.org/x/sys/unix"
	"periph.io/x/conn/v3/gpio"
	"periph.io/x/conn/v3/physic"
)

// Numbers of the GPIO character device, version 2 (linux/gpio.h), which x/sys does not have.
const (
	gpioGetChipInfo   = 0x8044b401
	gpioLineSetConfig = 0xc110b40d

	lineUsed        = 1 << 0
	lineInput       = 1 << 2
	lineOutput      = 1 << 3
	lineRising      = 1 << 4
	lineFalling     = 1 << 5
	linePullUp      = 1 << 8
	linePullDown    = 1 << 9
	lineBiasDisable = 1 << 10
)

// linesMax bounds the lines of a chip; the largest chips have some hundred.
const linesMax = 4096

// consumer is the name under which lines are held.
const consumer = "holdfast"

// lines lists the lines of all chips. Asking for a line's information changes nothing.
func (r *Root) lines() hal.Answer[[]hal.Line] {
	if !r.Live() {
		return hal.Answer[[]hal.Line]{Status: hal.Skip("GPIO lines: %v", errLive)}
	}
	var all []hal.Line
	for _, chip := range r.names("sys/bus/gpio/devices") {
		if !strings.HasPrefix(chip, "gpiochip") {
			continue
		}
		some, err := r.chipLines(chip)
		if err != nil {
			return hal.Answer[[]hal.Line]{Status: hal.Fail(err)}
		}
		all = append(all, some...)
	}
	return answer(all, "the kernel has no GPIO chip")
}

func (r *Root) chipLines(chip string) ([]hal.Line, error) {
	f, err := r.root.Open("dev/" + chip)
	if err != nil {
		return nil, fmt.Errorf("linux: gpio: %w", err)
	}
	defer f.Close()
	var info unix.GPIOChipInfo
	if err := ioctl(f.Fd(), gpioGetChipInfo, unsafe.Pointer(&info)); err != nil {
		return nil, fmt.Errorf("linux: gpio: %s: %w", chip, err)
	}
	var all []hal.Line
	for i := range min(info.Lines, linesMax) {
		l := unix.GPIOV2LineInfo{Offset: i}
		if err := ioctl(f.Fd(), unix.GPIO_V2_GET_LINEINFO_IOCTL, unsafe.Pointer(&l)); err != nil {
			return nil, fmt.Errorf("linux: gpio: %s line %d: %w", chip, i, err)
		}
		line := hal.Line{Chip: chip, Label: cString(info.Label[:]), Offset: int(i), Name: cString(l.Name[:])}
		if l.Flags&lineUsed != 0 {
			line.User = cString(l.Consumer[:])
			if line.User == "" {
				line.User = "the kernel"
			}
		}
		all = append(all, line)
	}
	return all, nil
}

func cString(b []byte) string {
	s, _, _ := bytes.Cut(b, []byte{0})
	return string(s)
}

func ioctl(fd uintptr, request uint, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, uintptr(request), uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}

// Pins gives the pins of a profile on a machine, by role.
type Pins struct {
	root  *Root
	board *boards.Board
}

var _ hal.Pins = (*Pins)(nil)

// NewPins returns the pins of b on r.
func NewPins(r *Root, b *boards.Board) *Pins { return &Pins{r, b} }

// ByRole is hal.Pins': it finds the line, which is asked for only at In or Out. A level is logical:
// High is pressed, or on, also where the line is active low.
func (p *Pins) ByRole(role string) (gpio.PinIO, error) {
	want, ok := p.board.Pin[role]
	if !ok {
		return nil, fmt.Errorf("linux: pin %s: %s has none: %w", role, p.board.ID, hal.ErrGone)
	}
	lines := p.root.lines()
	if lines.State != hal.Loaded {
		return nil, fmt.Errorf("linux: pin %s: %s: %w", role, lines.Why, hal.ErrGone)
	}
	for _, l := range lines.Value {
		if want.Line != "" && l.Name == want.Line || want.Line == "" && l.Label == want.Chip && l.Offset == want.Offset {
			return &Pin{root: p.root, line: l, role: role, activeLow: want.ActiveLow, fd: -1}, nil
		}
	}
	return nil, fmt.Errorf("linux: pin %s: no line %q, chip %q %d: %w", role, want.Line, want.Chip, want.Offset, hal.ErrGone)
}

// Pin is a line of the GPIO character device (Documentation/userspace-api/gpio/chardev.rst). It
// is for one goroutine, but WaitForEdge may run beside Read and Out. Halt gives the line back.
type Pin struct {
	root      *Root
	line      hal.Line
	role      string
	activeLow bool
	fd        int // of the request, -1 without
	pull      gpio.Pull
	output    bool
}

var _ gpio.PinIO = (*Pin)(nil)

// lineActiveLow turns levels round in the kernel (GPIO_V2_LINE_FLAG_ACTIVE_LOW).
const lineActiveLow = 1 << 1

// request asks for the line with these flags, or changes the request that is there.
func (p *Pin) request(flags uint64, values uint64) error {
	if p.activeLow {
		flags |= lineActiveLow
	}
	config := unix.GPIOV2LineConfig{Flags: flags}
	if flags&lineOutput != 0 {
		config.Num_attrs = 1
		config.Attrs[0].Attr.Id = unix.GPIO_V2_LINE_ATTR_ID_OUTPUT_VALUES
		config.Attrs[0].Attr.Flags = values
		config.Attrs[0].Mask = 1
	}
	if p.fd >= 0 {
		if err := ioctl(uintptr(p.fd), gpioLineSetConfig, unsafe.Pointer(&config)); err != nil {
			return fmt.Errorf("linux: pin %s: %w", p, err)
		}
		return nil
	}
	chip, err := p.root.root.Open("dev/" + p.line.Chip)
	if err != nil {
		return fmt.Errorf("linux: pin %s: %w", p, err)
	}
	defer chip.Close()
	r := unix.GPIOV2LineRequest{Config: config, Num_lines: 1}
	r.Offsets[0] = uint32(p.line.Offset)
	copy(r.Consumer[:], consumer)
	if err := ioctl(chip.Fd(), unix.GPIO_V2_GET_LINE_IOCTL, unsafe.Pointer(&r)); err != nil {
		if errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("linux: pin %s: held by %q: %w", p, p.line.User, err)
		}
		return fmt.Errorf("linux: pin %s: %w", p, err)
	}
	p.fd = int(r.Fd)
	return nil
}

// String is conn.Resource's.
func (p *Pin) String() string {
	return fmt.Sprintf("%s(%s %d %s)", p.role, p.line.Label, p.line.Offset, p.line.Name)
}

// Halt is conn.Resource's: it gives the line back.
func (p *Pin) Halt() error {
	if p.fd < 0 {
		return nil
	}
	err := unix.Close(p.fd)
	p.fd = -1
	return err
}

// Name is pin.Pin's.
func (p *Pin) Name() string { return p.role }

// Number is pin.Pin's: the offset on its chip.
func (p *Pin) Number() int { return p.line.Offset }

// Function is pin.Pin's.
func (p *Pin) Function() string {
	switch {
	case p.fd < 0:
		return ""
	case p.output:
		return "Out"
	}
	return "In"
}

// In is gpio.PinIn's.
func (p *Pin) In(pull gpio.Pull, edge gpio.Edge) error {
	flags := uint64(lineInput)
	flags |= map[gpio.Pull]uint64{gpio.Float: lineBiasDisable, gpio.PullDown: linePullDown, gpio.PullUp: linePullUp}[pull]
	flags |= map[gpio.Edge]uint64{gpio.RisingEdge: lineRising, gpio.FallingEdge: lineFalling, gpio.BothEdges: lineRising | lineFalling}[edge]
	if err := p.request(flags, 0); err != nil {
		return err
	}
	p.pull, p.output = pull, false
	return nil
}

// Read is gpio.PinIn's; Low when the line cannot be read.
func (p *Pin) Read() gpio.Level {
	v := unix.GPIOV2LineValues{Mask: 1}
	if p.fd < 0 || ioctl(uintptr(p.fd), unix.GPIO_V2_LINE_GET_VALUES_IOCTL, unsafe.Pointer(&v)) != nil {
		return gpio.Low
	}
	return v.Bits&1 != 0
}

// WaitForEdge is gpio.PinIn's.
func (p *Pin) WaitForEdge(timeout time.Duration) bool {
	if p.fd < 0 {
		return false
	}
	end := time.Now().Add(timeout)
	for {
		ms := -1
		if timeout >= 0 {
			ms = max(0, int(time.Until(end).Milliseconds()))
		}
		fds := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, ms)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			return false
		}
		var event unix.GPIOV2LineEvent
		b := unsafe.Slice((*byte)(unsafe.Pointer(&event)), unsafe.Sizeof(event))
		got, err := unix.Read(p.fd, b)
		return err == nil && got == len(b)
	}
}

// Pull is gpio.PinIn's.
func (p *Pin) Pull() gpio.Pull { return p.pull }

// DefaultPull is gpio.PinIn's: the kernel does not know it.
func (p *Pin) DefaultPull() gpio.Pull { return gpio.PullNoChange }

// Out is gpio.PinOut's.
func (p *Pin) Out(l gpio.Level) error {
	v := unix.GPIOV2LineValues{Mask: 1}
	if l {
		v.Bits = 1
	}
	if p.fd >= 0 && p.output {
		if err := ioctl(uintptr(p.fd), unix.GPIO_V2_LINE_SET_VALUES_IOCTL, unsafe.Pointer(&v)); err != nil {
			return fmt.Errorf("linux: pin %s: %w", p, err)
		}
		return nil
	}
	if err := p.request(lineOutput, v.Bits); err != nil {
		return err
	}
	p.output = true
	return nil
}

// PWM is gpio.PinOut's: a line of the character device has none.
func (p *Pin) PWM(gpio.Duty, physic.Frequency) error {
	return fmt.Errorf("linux: pin %s: PWM: %w", p, errors.ErrUnsupported)
}
