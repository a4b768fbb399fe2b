# SPDX-License-Identifier: MIT
# Builds libtenon_proto.a.  Which sources there are is known only after protoc has run, so this is a
# makefile of its own, called by the rule in core/proto/room.am with CC, CFLAGS, AR, RANLIB, GEN.
VPATH = $(GEN)
sources := $(shell cat $(GEN)/sources.list) registry.c
objects := $(patsubst %.c,$(GEN)/%.o,$(sources)) $(GEN)/fds.o

libtenon_proto.a: $(objects)
	$(Q)rm -f $@
	$(Q)$(AR) cr $@ $(objects)
	$(Q)$(RANLIB) $@

$(GEN)/%.o: $(GEN)/%.c
	$(SAY)
	$(Q)$(CC) -std=c11 $(GEN_CFLAGS) -I$(GEN) -MMD -MP -c -o $@ $<

$(GEN)/fds.o: $(GEN)/fds.S $(GEN)/api.fds
	$(Q)$(CC) $(GEN_CFLAGS) -I$(GEN) -c -o $@ $<

-include $(patsubst %.o,%.d,$(objects))
