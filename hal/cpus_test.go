package hal

import (
	"errors"
	"reflect"
	"testing"
)

func TestListsAndMasksReadAsTheKernelWritesThem(t *testing.T) {
	for _, c := range []struct {
		list, mask string
		want       CPUs
	}{
		{"", "0", nil},
		{"0", "1", CPUs{0}},
		{"0-3,8", "10f", CPUs{0, 1, 2, 3, 8}},
		{"32-39", "ff,00000000", CPUs{32, 33, 34, 35, 36, 37, 38, 39}},
		{"0,64", "1,00000000,00000001", CPUs{0, 64}},
	} {
		l, err := ParseList(c.list + "\n")
		if err != nil || !reflect.DeepEqual(l, c.want) {
			t.Errorf("list %q: %v, %v", c.list, l, err)
		}
		m, err := ParseMask(c.mask + "\n")
		if err != nil || !reflect.DeepEqual(m, c.want) {
			t.Errorf("mask %q: %v, %v", c.mask, m, err)
		}
		if c.want.List() != c.list || c.want.Mask() != c.mask {
			t.Errorf("%v is written %q and %q, want %q and %q", []int(c.want), c.want.List(), c.want.Mask(), c.list, c.mask)
		}
	}
	for _, s := range []string{"a", "-1", "1-", "3-1", "1,1", "2,1", "0-8192", "99999", "1,,2", "+1", "0x1"} {
		if _, err := ParseList(s); !errors.Is(err, ErrFormat) {
			t.Errorf("list %q: %v, want ErrFormat", s, err)
		}
	}
	for _, s := range []string{"", "g", "123456789", "1,", ",1", "-1", "+1"} {
		if _, err := ParseMask(s); !errors.Is(err, ErrFormat) {
			t.Errorf("mask %q: %v, want ErrFormat", s, err)
		}
	}
}

func TestACoreSaysWhatItIs(t *testing.T) {
	for s, want := range map[string]string{
		"0x00000000410fd083\n": "Arm Cortex-A72",
		"0x412fd050":           "Arm Cortex-A55",
		"0x00000000414fd0b0":   "Arm Cortex-A76",
		"0x00000000481fd010":   "HiSilicon TSV110",
		"0x00000000990fd120":   "implementer 0x99 part 0xd12",
	} {
		m, err := ParseMIDR(s)
		if err != nil || m.String() != want {
			t.Errorf("%q: %v, %v; want %s", s, m, err, want)
		}
		if n := NewMIDR(m.Implementer(), m.Part()); n.String() != want {
			t.Errorf("%q: from its two fields: %v", s, n)
		}
	}
	for _, s := range []string{"", "410fd083", "0x", "0x1410fd0830", "0xzz"} {
		if _, err := ParseMIDR(s); !errors.Is(err, ErrFormat) {
			t.Errorf("%q: %v, want ErrFormat", s, err)
		}
	}
}

func FuzzList(f *testing.F) {
	f.Add("0-3,8")
	f.Add("0-8191")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := ParseList(s)
		if err != nil {
			return
		}
		if again, err := ParseList(c.List()); err != nil || !reflect.DeepEqual(again, c) {
			t.Errorf("%q: %v, then %v, %v", s, c, again, err)
		}
	})
}

func FuzzMask(f *testing.F) {
	f.Add("ff,00000000")
	f.Add("0")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := ParseMask(s)
		if err != nil {
			return
		}
		if again, err := ParseMask(c.Mask()); err != nil || !reflect.DeepEqual(again, c) {
			t.Errorf("%q: %v, then %v, %v", s, c, again, err)
		}
	})
}

func FuzzMIDR(f *testing.F) {
	f.Add("0x00000000410fd083")
	f.Fuzz(func(t *testing.T, s string) {
		m, err := ParseMIDR(s)
		if err == nil && (m.Implementer() > 0xff || m.Part() > 0xfff || m.String() == "") {
			t.Errorf("%q: %x", s, uint64(m))
		}
	})
}
