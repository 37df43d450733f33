/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include <rte_bitops.h>
#include <rte_byteorder.h>
#include <rte_common.h>

#include "sw_blk.h"

#define HEADS            16
#define SECTORS_A_TRACK  63
#define WRITEBACK_OFFSET offsetof(struct virtio_blk_config, wce)

_Static_assert(offsetof(struct virtio_blk_config, unused1) + 3 == SW_BLK_CONFIG_BYTES,
	"configuration space is laid out as virtio says");

/* virtio 1.2, 5.2.4. What was not offered is there too: a driver does not look. */
static void
fill(const struct sw_blk_dev *dev, struct virtio_blk_config *config)
{
	uint64_t sectors = atomic_load(&dev->size_bytes) / SW_BLK_SECTOR;
	uint64_t cylinders = sectors / (HEADS * SECTORS_A_TRACK);
	const struct sw_blk_args *args = &dev->args;
	uint32_t block_sectors = args->blk_size_bytes / SW_BLK_SECTOR;

	memset(config, 0, sizeof(*config));
	config->capacity = rte_cpu_to_le_64(sectors);
	config->size_max = rte_cpu_to_le_32(args->size_max_bytes);
	config->seg_max = rte_cpu_to_le_32(args->seg_max);
	config->geometry.cylinders = rte_cpu_to_le_16(RTE_MIN(cylinders, (uint64_t)UINT16_MAX));
	config->geometry.heads = HEADS;
	config->geometry.sectors = SECTORS_A_TRACK;
	config->blk_size = rte_cpu_to_le_32(args->blk_size_bytes);
	config->physical_block_exp = rte_bsf32(args->physical_bytes) -
		rte_bsf32(args->blk_size_bytes);
	config->min_io_size = rte_cpu_to_le_16(args->physical_bytes / args->blk_size_bytes);
	config->wce = atomic_load(&dev->write_cache);
	config->num_queues = rte_cpu_to_le_16(args->nr_vqs);
	config->max_discard_sectors = rte_cpu_to_le_32(SW_BLK_RANGE_SECTORS_MAX);
	config->max_discard_seg = rte_cpu_to_le_32(SW_BLK_RANGES_MAX);
	config->discard_sector_alignment = rte_cpu_to_le_32(
		RTE_MAX(args->physical_bytes / SW_BLK_SECTOR, block_sectors));
	config->max_write_zeroes_sectors = rte_cpu_to_le_32(SW_BLK_RANGE_SECTORS_MAX);
	config->max_write_zeroes_seg = rte_cpu_to_le_32(SW_BLK_RANGES_MAX);
	config->write_zeroes_may_unmap = 1;
}

int
sw_blk_config_read(struct vdpa_device *vdpa, uint32_t offset, void *data, uint32_t len_bytes)
{
	struct sw_blk_dev *dev = sw_blk_of(vdpa);
	struct virtio_blk_config config;
	int rc = vdpa_emulated_fault(&dev->args.common, VDPA_FAULT_CONFIG);

	if (rc != 0)
		return rc;
	fill(dev, &config);
	memcpy(data, (const uint8_t *)&config + offset, len_bytes);
	return 0;
}

/* Only the write cache mode can be written; a write of more must leave the rest as it is. */
int
sw_blk_config_write(struct vdpa_device *vdpa, uint32_t offset, const void *data, uint32_t len)
{
	struct sw_blk_dev *dev = sw_blk_of(vdpa);
	struct virtio_blk_config config;
	uint8_t *raw = (uint8_t *)&config;
	int rc = vdpa_emulated_fault(&dev->args.common, VDPA_FAULT_CONFIG_WRITE);
	uint8_t mode;

	if (rc != 0)
		return rc;
	if ((dev->args.features & SW_BLK_BIT(VIRTIO_BLK_F_CONFIG_WCE)) == 0 ||
		offset > WRITEBACK_OFFSET || offset + len <= WRITEBACK_OFFSET)
		return -EINVAL;
	fill(dev, &config);
	mode = ((const uint8_t *)data)[WRITEBACK_OFFSET - offset];
	config.wce = mode;
	if (mode > 1 || memcmp(raw + offset, data, len) != 0)
		return -EINVAL;
	atomic_store(&dev->write_cache, mode != 0);
	return 0;
}
