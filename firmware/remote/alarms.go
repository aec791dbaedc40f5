package remote

import (
	"context"

	"github.com/holdfast-edge/holdfast/firmware/alarms"
)

// Alarms are the box's alarms.
func (b *Box) Alarms(ctx context.Context) (*alarms.View, error) {
	v := new(alarms.View)
	return v, b.get(ctx, "/api/v1/alarms", v)
}

// AlarmRules are the rules that the box evaluates, and what they are in.
func (b *Box) AlarmRules(ctx context.Context) ([]alarms.RuleView, error) {
	var got struct {
		Rules []alarms.RuleView `json:"rules"`
	}
	return got.Rules, b.get(ctx, "/api/v1/alarms/rules", &got)
}

// Silence keeps the box from telling of alarms: fields are matchers (one a line), why, and for or until.
func (b *Box) Silence(ctx context.Context, fields map[string]string) (*alarms.Silence, error) {
	x := new(alarms.Silence)
	return x, b.Post(ctx, "/api/v1/alarms/silence", fields, x)
}

// Unsilence ends a silence, by its id or the first digits of it.
func (b *Box) Unsilence(ctx context.Context, id string) (*alarms.Silence, error) {
	x := new(alarms.Silence)
	return x, b.Post(ctx, "/api/v1/alarms/unsilence", map[string]string{"id": id}, x)
}

// TestAlarms has the box's receivers told of an alarm that is none, and says how many there are.
func (b *Box) TestAlarms(ctx context.Context) (int, error) {
	var got struct {
		Receivers int `json:"receivers"`
	}
	err := b.Post(ctx, "/api/v1/alarms/test", nil, &got)
	return got.Receivers, err
}
