/* SPDX-License-Identifier: MIT */
/*
 * simdev_unit.c - the one simulated device of a unit test; see simdev.h.
 *
 * It is there before and after its handle, so that it can lose its power, and
 * time passes only in sim_step().
 */
#include <errno.h>
#include <string.h>

#include "simdev_core.h"

static struct blkio dev = { .lock = PTHREAD_MUTEX_INITIALIZER };

void (*sim_on_request)(enum sim_op op, uint64_t off, uint64_t len, uint32_t flags);

static void
tell(struct blkio *b, enum sim_event event, const struct sim_request *r)
{
	if (event == SIM_COMES && sim_on_request)
		sim_on_request(r->op, r->off, r->len, r->flags);
}

/* --- For the test ------------------------------------------------------------- */

void
sim_reset(const struct sim_config *config)
{
	pthread_mutex_lock(&dev.lock);
	if (dev.nrequests || dev.open)
		sim_broken(&dev, "reset while the device is open");
	dev.tell = tell;
	sim_init(&dev, config);
	pthread_mutex_unlock(&dev.lock);
}

void
sim_renew(uint64_t seed, const struct sim_fault *faults)
{
	struct sim_config config = dev.c;
	unsigned nregions = dev.nregions;

	pthread_mutex_lock(&dev.lock);
	if (dev.nrequests)
		sim_broken(&dev, "renewed with requests in flight");
	config.seed = seed;
	memcpy(config.faults, faults, sizeof(config.faults));
	sim_init(&dev, &config);
	dev.nregions = nregions; /* whose they are does not know */
	pthread_mutex_unlock(&dev.lock);
}

void
sim_unhold(void)
{
	pthread_mutex_lock(&dev.lock);
	sim_let_go(&dev);
	pthread_mutex_unlock(&dev.lock);
}

void
sim_mend(void)
{
	pthread_mutex_lock(&dev.lock);
	memset(dev.c.faults, 0, sizeof(dev.c.faults));
	sim_let_go(&dev);
	pthread_mutex_unlock(&dev.lock);
}

void
sim_poke(uint64_t off, const void *data, size_t len)
{
	memcpy(dev.disk.now + (off - dev.c.window_off), data, len);
	memcpy(dev.disk.stable + (off - dev.c.window_off), data, len);
}

void
sim_peek(uint64_t off, void *data, size_t len)
{
	memcpy(data, dev.disk.now + (off - dev.c.window_off), len);
}

bool
sim_step(void)
{
	bool any;

	pthread_mutex_lock(&dev.lock);
	any = sim_step_one(&dev);
	pthread_mutex_unlock(&dev.lock);
	return any;
}

unsigned
sim_open(void)
{
	unsigned n;

	pthread_mutex_lock(&dev.lock);
	n = dev.nrequests;
	pthread_mutex_unlock(&dev.lock);
	return n;
}

void
sim_power_cut(void)
{
	pthread_mutex_lock(&dev.lock);
	sim_cut(&dev);
	pthread_mutex_unlock(&dev.lock);
}

void
sim_power_on(void)
{
	pthread_mutex_lock(&dev.lock);
	if (dev.nrequests || dev.open)
		sim_broken(&dev, "power comes back while the device is open");
	dev.dead = false;
	memset(dev.c.faults, 0, sizeof(dev.c.faults));
	pthread_mutex_unlock(&dev.lock);
}

const struct sim_stats *
sim_stats(void)
{
	return &dev.stats;
}

const char *
sim_text(void)
{
	dev.text[dev.text_len] = '\0';
	return dev.text;
}

void
sim_text_clear(void)
{
	dev.text_len = 0;
	dev.text[0] = '\0';
}

/* --- Its handle --------------------------------------------------------------- */

int
blkio_create(const char *driver, struct blkio **bp)
{
	if (strcmp(driver, "sim") != 0)
		return sim_refuse(ENOENT, "Unknown driver name");
	if (dev.open)
		sim_broken(&dev, "there is one device only");
	dev.open = true;
	dev.num_queues = 1;
	*bp = &dev;
	return 0;
}

int
blkio_connect(struct blkio *b)
{
	return 0;
}

void
blkio_destroy(struct blkio **bp)
{
	sim_close(*bp);
	*bp = NULL;
}
